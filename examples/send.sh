#!/bin/sh
# Send the entry on standard input to the webhook in $WEBHOOK, for
#
#     catalyst-seen watch --once -f feeds.txt --exec examples/send.sh
#
# It needs jq and curl. Discord wants {"content": ...}, Slack and Mattermost {"text": ...}.
# --fail makes an error of every answer but a success; without it a refused entry counts
# as sent. --retry waits as long as a Retry-After says; what curl says is shown if it fails.
message=$(jq -c '(if (.title // "") == "" then .summary else .title end) as $text
    | {content: "\($text) \(.link // "")"}') || exit
error=$(curl --fail --silent --show-error --output /dev/null --retry 5 --max-time 30 \
    --header "Content-Type: application/json" --data-binary "$message" \
    "${WEBHOOK:?is not set}" 2>&1) || { code=$?; echo "$error" >&2; exit $code; }
