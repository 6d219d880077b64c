"""Credentials: what opens an account, a machine or a message.

Forms of tokens are those that their issuers document or that their clients print. Of rules that overlap the one listed
first names the finding. After the kind stands what every line with such a match contains, see `Rule`.
"""

from __future__ import annotations

from recorder.release.secrets.judgement import (
    has_key_body,
    is_assigned_password,
    is_password,
    is_random,
    is_stated_password,
)
from recorder.release.secrets.rule import Rule

# Between a name and its value: `key = value`, `"key": "value"`, the same within a string of JSON, `key => value`.
_IS = r"[\"'\\]{0,3}\s{0,3}(?:=>|:=|[=:])\s{0,3}[\"'\\]{0,3}"

_CLOUD = (
    Rule("aws-access-key-id", "AKIA ASIA ABIA ACCA", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", ends=True),
    Rule(
        "aws-secret-access-key",
        "(?i)secret",
        rf"(?i:aws[a-z_.-]{{0,12}}secret[a-z_.-]{{0,12}}|secretaccesskey){_IS}(?P<v>[A-Za-z0-9/+=]{{40}})",
        begins=False,
        ends=True,
    ),
    Rule(
        "aws-session-token",
        "(?i)session_token sessiontoken security-token",
        rf"(?i:aws_?session_?token|sessiontoken|x-amz-security-token){_IS}(?P<v>[A-Za-z0-9/+=%]{{60,}})",
        begins=False,
    ),
    Rule("aws-signature", "X-Amz-Signature=", r"X-Amz-Signature=(?P<v>[0-9a-f]{64})", ends=True),
    Rule("aws-mws-key", "amzn.mws.", r"amzn\.mws\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    Rule("google-api-key", "AIza", r"AIza[A-Za-z0-9_-]{35}", ends=True),
    Rule("google-oauth-token", "ya29.", r"ya29\.[A-Za-z0-9_-]{20,}"),
    Rule("google-oauth-secret", "GOCSPX-", r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    Rule("google-refresh-token", "1//0", r"1//0[A-Za-z0-9_-]{30,}"),
    Rule("google-service-account-key-id", "private_key_id", rf"private_key_id{_IS}(?P<v>[0-9a-f]{{40}})", ends=True),
    Rule("azure-storage-key", "AccountKey=", r"AccountKey=(?P<v>[A-Za-z0-9+/]{86}==)"),
    Rule("azure-shared-access-key", "SharedAccessKey=", r"SharedAccessKey=(?P<v>[A-Za-z0-9+/]{42,}={0,2})"),
    Rule("azure-sas-signature", "sig=", r"[?&]sig=(?P<v>[A-Za-z0-9%+/=_-]{40,})", begins=False),
    Rule("azure-client-secret", "Q~", r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,}"),
    Rule("digitalocean-token", "_v1_", r"do[opr]_v1_[0-9a-f]{64}", ends=True),
    Rule("alibaba-access-key-id", "LTAI", r"LTAI[A-Za-z0-9]{20}", ends=True),
    Rule("cloudflare-origin-key", "v1.0-", r"v1\.0-[0-9a-f]{24}-[0-9a-f]{100,}"),
    Rule("fly-token", "fo1_ FlyV1", r"(?:fo1_[A-Za-z0-9_-]{40,}|FlyV1 (?P<v>fm[12][ar]?_[A-Za-z0-9+/=_-]{40,}))"),
    Rule("pulumi-token", "pul-", r"pul-[0-9a-f]{40}", ends=True),
    Rule("terraform-token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
    Rule("vault-token", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{20,}"),
    Rule("doppler-token", "dp.", r"dp\.(?:pt|st|sa|ct|scim|audit)\.[A-Za-z0-9_.-]{40,}"),
    Rule("tailscale-key", "tskey-", r"tskey-[a-z]{3,12}-[A-Za-z0-9]{8,}-[A-Za-z0-9]{20,}"),
)
_MODELS = (
    Rule("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,}"),
    Rule("openrouter-key", "sk-or-", r"sk-or-v1-[0-9a-f]{64}"),
    Rule("openai-key", "sk-", r"sk-(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})"),
    Rule("huggingface-token", "hf_ api_org_", r"hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{30,}"),
    Rule("wandb-key", "wandb_v1_", r"wandb_v1_[A-Za-z0-9_-]{40,}"),
    Rule(
        "wandb-key",
        "(?i)wandb",
        r"(?i:wandb)(?P<between>[A-Za-z_ .:'\"=\\/-]{1,40})(?P<v>[0-9a-f]{40})",
        begins=False,
        ends=True,
        is_secret=lambda match: not any(word in match["between"].lower() for word in ("commit", "sha", "rev")),
    ),
    Rule("replicate-token", "r8_", r"r8_[A-Za-z0-9]{37}", ends=True),
    Rule("groq-key", "gsk_", r"gsk_[A-Za-z0-9]{40,}"),
    Rule("nvidia-key", "nvapi-", r"nvapi-[A-Za-z0-9_-]{40,}"),
    Rule("xai-key", "xai-", r"xai-[A-Za-z0-9]{60,}"),
    Rule("perplexity-key", "pplx-", r"pplx-[A-Za-z0-9]{40,}"),
    Rule("databricks-token", "dapi", r"dapi[0-9a-f]{32}(?:-[0-9])?", ends=True),
)
_CODE = (
    Rule("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,}"),
    Rule("github-fine-grained-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{40,}"),
    Rule(
        "gitlab-token",
        "glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- gloas- glsoat- glffct- GR1348941",
        r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct)-[A-Za-z0-9_.-]{20,}|GR1348941[A-Za-z0-9_-]{20,}",
    ),
    Rule("npm-token", "npm_", r"npm_[A-Za-z0-9]{36}", ends=True),
    Rule("npm-token", "_authToken=", r"_authToken=(?P<v>[A-Za-z0-9_=-]{16,})", begins=False, is_secret=is_password),
    Rule("pypi-token", "pypi-", r"pypi-[A-Za-z0-9_-]{50,}"),
    Rule("rubygems-key", "rubygems_", r"rubygems_[0-9a-f]{48}", ends=True),
    Rule("docker-token", "dckr_", r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    Rule(
        "docker-auth",
        "auth\" auth' auth\\",
        rf"[\"'\\]auth{_IS}(?P<v>[A-Za-z0-9+/]{{16,}}={{0,2}})",
        begins=False,
        is_secret=is_random,
    ),
    Rule("artifactory-key", "AKCp", r"AKCp[A-Za-z0-9]{60,}"),
    Rule("sentry-token", "sntrys_ sntryu_", r"sntry[su]_[A-Za-z0-9+/=_-]{40,}"),
    Rule("grafana-token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9_+/=]{32,}"),
    Rule("newrelic-key", "NRAK-", r"NRAK-[A-Z0-9]{27}", ends=True),
    Rule("postman-key", "PMAK-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}", ends=True),
    Rule("linear-key", "lin_api_", r"lin_api_[A-Za-z0-9]{40}", ends=True),
    Rule("atlassian-token", "ATATT3", r"ATATT3[A-Za-z0-9_=-]{50,}"),
    Rule("notion-token", "ntn_ secret_", r"ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43}", ends=True),
    Rule("figma-token", "figd_", r"figd_[A-Za-z0-9_-]{36,}"),
    Rule("supabase-token", "sbp_", r"sbp_[0-9a-f]{40}", ends=True),
    Rule("planetscale-token", "pscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,}"),
)
_MESSAGES = (
    Rule("slack-token", "xox xapp-", r"xox[abeoprs]-[A-Za-z0-9.-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{20,}"),
    Rule(
        "slack-webhook",
        "hooks.slack.com/",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<v>[A-Za-z0-9/_-]{20,})",
    ),
    Rule(
        "discord-webhook", "/api/webhooks/", r"discord(?:app)?\.com/api/webhooks/(?P<v>[0-9]{10,}/[A-Za-z0-9_-]{40,})"
    ),
    Rule(
        "discord-token",
        "MT MD Mj Mz ND NT Nj Nz OD OT",
        r"(?:M[TDjz]|N[DTjz]|O[DT])[A-Za-z0-9_-]{22,26}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
        look=r"(?:M[TDjz]|N[DTjz]|O[DT])[A-Za-z0-9_-]{3,}[.]",
    ),
    Rule("telegram-token", ":AA", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}", ends=True),
    Rule("sendgrid-key", "SG.", r"SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}"),
    Rule("mailgun-key", "key-", r"key-[0-9a-f]{32}", ends=True),
    Rule("mailchimp-key", "-us", r"[0-9a-f]{32}-us[0-9]{1,2}", ends=True),
    Rule("twilio-key", "SK", r"SK[0-9a-f]{32}", ends=True),
)
_SHOPS = (
    Rule("stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}"),
    Rule("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", ends=True),
    Rule("square-token", "sq0", r"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,}"),
)
# Private keys that stand in one line, their line breaks escaped; see `key_block` for those of many lines.
PGP_KEY = Rule(
    "pgp-private-key",
    "-----BEGIN",
    r"-----BEGIN PGP PRIVATE KEY BLOCK-----(?P<v>[^-]*)",
    begins=False,
    is_secret=has_key_body,
)
SSH_KEY = Rule(
    "ssh-private-key",
    "-----BEGIN",
    r"-----BEGIN (?:OPENSSH|RSA|DSA|EC) PRIVATE KEY-----(?P<v>[^-]*)",
    begins=False,
    is_secret=has_key_body,
)
OTHER_KEY = Rule(
    "private-key",
    "-----BEGIN",
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----(?P<v>[^-]*)",
    begins=False,
    is_secret=has_key_body,
)
_KEYS = (
    PGP_KEY,
    SSH_KEY,
    OTHER_KEY,
    Rule(
        "putty-private-key",
        "PuTTY-User-Key-File-",
        r"PuTTY-User-Key-File-[0-9]: (?P<v>[^\s\\\x1b]+)",
        is_secret=is_password,
    ),
    Rule("age-secret-key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    Rule("kubeconfig-key", "client-key-data", rf"client-key-data{_IS}(?P<v>[A-Za-z0-9+/=]{{16,}})"),
    Rule("json-web-token", "eyJ", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
)
# Keys of which every value is a password; `_pass` may also be one of several passes.
PASSWORD_KEY = r"(?:(?i:password|passwd|passphrase|_pwd)|_PASS)"
STATED_PASSWORD = Rule(
    "password",
    "(?i)password passwd passphrase _pwd _pass",
    rf"{PASSWORD_KEY}{_IS}(?P<v>[^\s\"'\\,;\x1b]{{6,64}})",
    weak=True,
    begins=False,
    in_code=False,
    is_secret=is_stated_password,
)
_URL_WITH_USER = r"://[^\s/]+@"
_PASSWORDS = (
    Rule(
        "database-url",
        "@",
        r"(?i:postgres|postgresql|mysql|mariadb|mongodb|redis|rediss|amqp|amqps|mssql|oracle|clickhouse|cockroachdb|sqlserver)"
        r"(?:\+[a-z0-9]{2,12})?://[^\s/:@\"'<>]{0,64}:(?P<v>[^\s/\"'<>]{1,128})@[A-Za-z0-9\[]",
        weak=True,
        is_secret=is_password,
        look=_URL_WITH_USER,
    ),
    Rule(
        "url-password",
        "@",
        r"[A-Za-z][A-Za-z0-9+.-]{1,16}://[^\s/:@\"'<>]{0,64}:(?P<v>[^\s/\"'<>]{1,128})@[A-Za-z0-9\[]",
        weak=True,
        is_secret=is_password,
        look=_URL_WITH_USER,
    ),
    Rule("url-token", "@", r"https?://(?P<v>[A-Za-z0-9_-]{20,})@[A-Za-z0-9]", is_secret=is_random, look=_URL_WITH_USER),
    Rule(
        "netrc-password",
        "password",
        r"(?:login|account|user)\s{1,8}\S{1,64}\s{1,8}password\s{1,8}(?P<v>[^\s\"'\\\x1b]{1,64})",
        weak=True,
        is_secret=is_password,
    ),
    Rule(
        "netrc-password",
        "password",
        r"^[+\s-]{0,8}password[ \t]{1,8}(?P<v>\S{4,64})\s*$",
        weak=True,
        begins=False,
        is_secret=is_password,
    ),
    Rule(
        "authorization-header",
        "(?i)authorization",
        rf"(?i:authorization){_IS}(?i:bearer|basic|token)\s{{1,3}}(?P<v>[A-Za-z0-9._~+/=-]{{12,}})",
        begins=False,
        is_secret=is_password,
    ),
    Rule("bearer-token", "(?i)bearer", r"(?i:bearer)\s{1,3}(?P<v>[A-Za-z0-9._~+/=-]{20,})", is_secret=is_random),
    Rule(
        "password",
        "(?i)password passwd passphrase _pwd _pass",
        rf"(?i:password|passwd|passphrase|_pwd|_pass){_IS}(?P<v>[^\s\"'\\,;\x1b]{{6,64}})",
        weak=True,
        begins=False,
        is_secret=is_assigned_password,
    ),
    STATED_PASSWORD,
    Rule(
        "secret",
        "(?i)secret api_key apikey access_key accesskey auth_token authtoken access_token accesstoken refresh_token"
        " refreshtoken private_token privatetoken _token",
        rf"(?i:secret|secret_?key|api_?key|access_?key|auth_?token|access_?token|refresh_?token|private_?token|_token|_secret)"
        rf"{_IS}(?P<v>[A-Za-z0-9_+/=.~-]{{16,256}})",
        begins=False,
        is_secret=is_random,
    ),
)

CREDENTIALS: tuple[Rule, ...] = (*_KEYS, *_CLOUD, *_MODELS, *_CODE, *_MESSAGES, *_SHOPS, *_PASSWORDS)
