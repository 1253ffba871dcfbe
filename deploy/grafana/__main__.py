"""`python -m deploy.grafana`: writes every dashboard into `deploy/grafana/dashboards`."""

from __future__ import annotations

import sys

from deploy.grafana.written import FOLDER, dashboards

for name, text in dashboards().items():
    path = FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    sys.stdout.write(f"{path.relative_to(FOLDER.parents[2])}: {len(text):,} characters\n")
