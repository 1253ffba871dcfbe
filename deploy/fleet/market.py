"""Where the fleet's accounts buy: countries, currencies with their rates, plans with their prices."""

from __future__ import annotations

from typing import Final, NamedTuple

from deploy.fleet.dice import Dice


class Country(NamedTuple):
    """A market: ISO code, sales geo and territory, and the currency that its customers pay in."""

    code: str
    geo: str
    territory: str
    currency: str


COUNTRIES: Final[dict[Country, float]] = {
    Country("US", "AMER", "US East", "USD"): 0.22,
    Country("US", "AMER", "US West", "USD"): 0.18,
    Country("CA", "AMER", "Canada", "USD"): 0.06,
    Country("BR", "AMER", "LATAM", "USD"): 0.03,
    Country("DE", "EMEA", "DACH", "EUR"): 0.13,
    Country("FR", "EMEA", "Southern Europe", "EUR"): 0.08,
    Country("NL", "EMEA", "Northern Europe", "EUR"): 0.05,
    Country("GB", "EMEA", "UKI", "GBP"): 0.1,
    Country("CH", "EMEA", "DACH", "CHF"): 0.02,
    Country("JP", "APAC", "Japan", "JPY"): 0.05,
    Country("AU", "APAC", "ANZ", "AUD"): 0.03,
    Country("IN", "APAC", "South Asia", "USD"): 0.03,
    Country("CN", "JIHU", "Mainland", "CNY"): 0.02,
}
"""Countries with their shares of the accounts."""


class Currency(NamedTuple):
    """Worth in US dollars at first, what a dollar's price is in it, and its digits behind the point."""

    worth: float
    dollar: float
    digits: int


CURRENCIES: Final = {
    "USD": Currency(1.0, 1.0, 2),
    "EUR": Currency(1.09, 0.92, 2),
    "GBP": Currency(1.27, 0.8, 2),
    "CHF": Currency(1.13, 0.9, 2),
    "AUD": Currency(0.66, 1.5, 2),
    "CNY": Currency(0.14, 7.0, 2),
    "JPY": Currency(0.0067, 150.0, 0),
}

PLANS_BY_RANK: Final = {
    "self_managed": ("free", "starter", "premium", "ultimate"),
    "gitlab_com": ("free", "bronze", "silver", "gold"),
}

PRICES: Final = (0, 400, 1900, 9900)
"""List price of a seat and month in US cents, by the plan's rank."""

SIZES: Final[dict[tuple[int, int], float]] = {
    (1, 9): 0.45, (10, 49): 0.3, (50, 199): 0.16, (200, 1999): 0.08, (2000, 9000): 0.01,
}  # fmt: skip
"""From how many to how many seats a subscription begins with, with shares."""

ADDONS: Final = {"ci_minutes": 0.55, "storage": 0.3, "duo_seats": 0.15}


def price(rank: int, currency: str) -> int:
    """List price of a seat and month in the currency's smallest unit."""
    kind = CURRENCIES[currency]
    return round(PRICES[rank] * kind.dollar / 100 * 10.0**kind.digits)


def money(smallest: int, currency: str) -> str:
    """An amount of smallest units as a decimal string."""
    digits = CURRENCIES[currency].digits
    if not digits:
        return str(smallest)
    units, rest = divmod(abs(smallest), 10**digits)
    return f"{'-' if smallest < 0 else ''}{units}.{rest:0{digits}}"


class Rates:
    """What one unit of each currency is worth in the reporting currency; it changes from turn to turn.

    A reporting currency that is none of ours is taken to be worth a dollar.
    """

    def __init__(self, seed: int, reporting: str, turns: int) -> None:
        self._reporting = reporting
        self._texts: dict[str, list[str]] = {}
        against = CURRENCIES[reporting].worth if reporting in CURRENCIES else 1.0
        for name, kind in CURRENCIES.items():
            dice = Dice(seed, "rate", name)
            worth = kind.worth / against
            texts = self._texts[name] = []
            for _ in range(turns):
                texts.append(f"{worth:.6f}")
                worth *= 0.98 + 0.04 * dice.unit()

    def of(self, currency: str, turn: int) -> str:
        """The rate in a turn as a decimal string, '' for the reporting currency itself."""
        return "" if currency == self._reporting else self._texts[currency][turn]
