"""The product that the fleet's people use: stages, features, and who uses which."""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

STAGES: Final[dict[str, tuple[str, ...]]] = {
    "create": ("merge_requests", "source_code", "code_review", "web_ide", "wiki"),
    "verify": ("ci_pipelines", "ci_builds", "test_reports"),
    "plan": ("issues", "boards", "epics", "milestones"),
    "secure": ("sast", "container_scanning", "dependency_scanning"),
    "package": ("container_registry", "package_registry"),
    "monitor": ("incidents", "alerts"),
    "configure": ("kubernetes_agent", "terraform_state"),
    "govern": ("security_policies", "audit_events"),
}


class Feature(NamedTuple):
    """A feature in its stage, and the least rank of plan that has it (0 free … 3 ultimate)."""

    stage: str
    name: str
    rank: int


_RANKS: Final = {"epics": 2, "audit_events": 2, "sast": 0, "container_scanning": 0, "secure": 3, "govern": 3}

FEATURES: Final = tuple(
    Feature(stage, name, _RANKS.get(name, _RANKS.get(stage, 0))) for stage, names in STAGES.items() for name in names
)

ROLES: Final[dict[str, float]] = {
    "developer": 0.55,
    "product_manager": 0.12,
    "operator": 0.13,
    "security_engineer": 0.07,
    "designer": 0.04,
    "visitor": 0.09,
}

LIKES: Final[dict[str, dict[str, float]]] = {
    "developer": {"create": 0.6, "verify": 0.5, "plan": 0.3, "secure": 0.1, "package": 0.2, "monitor": 0.03},
    "product_manager": {"create": 0.1, "plan": 0.9, "monitor": 0.05, "govern": 0.05},
    "operator": {"create": 0.3, "verify": 0.6, "package": 0.4, "monitor": 0.5, "configure": 0.6, "plan": 0.1},
    "security_engineer": {"create": 0.2, "plan": 0.2, "secure": 0.9, "govern": 0.7},
    "designer": {"create": 0.15, "plan": 0.7},
    "visitor": {"create": 0.12, "plan": 0.15},
}
"""How likely somebody of a role is to use a feature of a stage at all."""

ADOPTION: Final[dict[str, float]] = {
    "create": 0.97,
    "verify": 0.8,
    "plan": 0.85,
    "secure": 0.6,
    "package": 0.5,
    "monitor": 0.25,
    "configure": 0.35,
    "govern": 0.6,
}
"""How likely a place is to use a stage at all."""

MONTHLY: Final = "usage_activity_by_stage_monthly"

SMAU_PATHS: Final[dict[str, tuple[str, ...]]] = {
    "create": (MONTHLY, "create", "action_monthly_active_users_project_repo"),
    "verify": (MONTHLY, "verify", "ci_pipelines"),
    "secure": (MONTHLY, "secure", "user_unique_users_all_secure_scanners"),
    "plan": ("redis_hll_counters", "issues_edit", "issues_edit_total_unique_counts_monthly"),
    "package": ("redis_hll_counters", "user_packages", "user_packages_total_unique_counts_monthly"),
    "monitor": ("redis_hll_counters", "incident_management", "incident_management_total_unique_counts_monthly"),
    "configure": (
        "redis_hll_counters",
        "kubernetes_agent",
        "k8s_api_proxy_requests_unique_agents_via_ci_access_monthly",
    ),
    "govern": ("redis_hll_counters", "govern", "users_visiting_govern_pages_monthly"),
}
"""Where GitLab's own payload keeps a stage's monthly users."""

COUNTERS: Final = (
    "assignee_lists", "boards", "ci_builds", "ci_internal_pipelines", "ci_runners", "ci_triggers", "deploy_keys",
    "deployments", "environments", "groups", "issues", "keys", "labels", "merge_requests", "milestones", "notes",
    "pages_domains", "projects", "protected_branches", "releases", "snippets", "todos", "uploads", "web_hooks",
)  # fmt: skip

SETTINGS: Final = {
    "ldap_encrypted_secrets_enabled": False,
    "smtp_encrypted_secrets_enabled": True,
    "gitaly_apdex": 0.98,
}
"""What is no number among today's blocks, and a number that counts nobody."""

PLANS: Final[dict[tuple[str, str], float]] = {
    ("CE", ""): 0.38,
    ("EE", ""): 0.10,
    ("EES", "starter"): 0.08,
    ("EEP", "premium"): 0.26,
    ("EEU", "ultimate"): 0.18,
}
"""(edition, license_plan) of installations, with their shares."""

GROUP_PLANS: Final[dict[str, float]] = {"free": 0.55, "bronze": 0.1, "silver": 0.25, "gold": 0.1}

RANKS: Final = {
    "": 0, "free": 0, "bronze": 1, "starter": 1, "silver": 2, "premium": 2, "gold": 3, "ultimate": 3,
}  # fmt: skip


def version_of(day: dt.date, months_behind: int, patch: int) -> str:
    """The version an installation runs that updates `months_behind` months late: one a month, a major one each May."""
    months = day.year * 12 + day.month - 1 - (day.day < 18) - months_behind
    since_17 = months - (2024 * 12 + 4)
    major, minor = divmod(since_17, 12)
    return f"{max(17 + major, 9)}.{minor}.{patch}"
