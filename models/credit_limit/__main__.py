"""Check a policy before it decides on anyone.

python -m models.credit_limit check configs/policies/credit_limit.toml
python -m models.credit_limit check configs/policies/credit_limit.toml --card var/bundles/credit_limit/NAME/card.json
"""

from datasets.files.text_encoding import use_utf8
from models.policy.cli import CREDIT_LIMIT, build_app

app = build_app(CREDIT_LIMIT)

if __name__ == "__main__":
    use_utf8()
    app()
