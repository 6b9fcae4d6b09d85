#!/bin/sh
# Send the entry on standard input to the webhook in $WEBHOOK, for
#
#     catalyst-seen watch --once -f feeds.txt --max-attempts 5 --exec examples/send.sh
#
# It needs jq and curl. Discord wants {"content": ...} of 2,000 characters at most, in which
# "@everyone" is only text here; Slack and Mattermost want {"text": ...}.
# --retry waits for a Retry-After of up to 30 seconds, and then tries once more. What passes
# ends with 75, "later"; a refusal, such as 404, is an attempt. The last line is kept as the error.
: "${WEBHOOK:?is not set}"
message=$(jq -c '[.title, .summary, .key] as $texts
    | ($texts | map(select((. // "") != "")) | first | .[0:1500]) as $text
    | {content: "\($text) \(.link // "")", allowed_mentions: {parse: []}}') || exit
answer=$(curl --silent --show-error --retry 1 --retry-max-time 30 --max-time 30 \
    --write-out ' HTTP %{http_code}' --header "Content-Type: application/json" \
    --data-binary "$message" "$WEBHOOK")
case $answer in
    *' HTTP 2'??) ;;
    *' HTTP 000') exit 75 ;;  # no answer: curl has said why
    *' HTTP 408' | *' HTTP 429' | *' HTTP 5'??) echo "$answer" >&2; exit 75 ;;
    *) echo "$answer" >&2; exit 1 ;;
esac
