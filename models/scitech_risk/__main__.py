"""Check a policy before it decides on anyone.

python -m models.scitech_risk check configs/policies/scitech_risk.toml
python -m models.scitech_risk check configs/policies/scitech_risk.toml --card var/bundles/scitech_risk/NAME/card.json
"""

from datasets.files.text_encoding import use_utf8
from models.policy.cli import SCITECH_RISK, build_app

app = build_app(SCITECH_RISK)

if __name__ == "__main__":
    use_utf8()
    app()
