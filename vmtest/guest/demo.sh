#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The demonstration, run in the virtual machine by `cargo xtask demo`. Ends with 0 only if all of it
# happened as it should.
set -u
CONTAINER=web
IMAGE=docker.io/library/gorget-demo:1
TOKEN=/run/secrets/kubernetes.io/serviceaccount/token
POLICIES=/etc/gorget/policies
AGENT_LOG=/tmp/gorgetd.log
ALERTS=/tmp/alerts.json
failed=0

say() { printf '\n== %s\n' "$*"; }
# Waits until a file has a line with the given text.
wait_for() {
	tries=0
	until grep -q -- "$2" "$1" 2>/dev/null; do
		tries=$((tries + 1))
		if [ $tries -gt 600 ]; then
			echo "waited in vain for \`$2\` in $1:"
			cat "$1"
			exit 1
		fi
		busybox usleep 100000
	done
}
# check WHAT WANTED-EXIT-CODE-CLASS OUTPUT-PART COMMAND...: runs, shows, and compares.
check() {
	what=$1 wanted=$2 part=$3
	shift 3
	output=$("$@" 2>&1)
	code=$?
	if [ $code -eq 0 ]; then outcome=works; else outcome=fails; fi
	printf '   %-46s %s\n' "$what" "$(echo "$output" | head -n 1)"
	if [ $outcome != "$wanted" ] || ! echo "$output" | grep -qi -- "$part"; then
		echo "   ^^ NOT AS IT SHOULD BE: expected that it $wanted with \`$part\` (exit code $code)"
		failed=$((failed + 1))
	fi
}
in_container() {
	ctr task exec --exec-id "e$$-$(date +%s%N)" "$CONTAINER" "$@"
}
# field NAME: from the alert on standard input.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
show_alert() {
	wait_for $ALERTS "\"Resource\":\"$1\""
	alert=$(grep "\"Resource\":\"$1\"" $ALERTS | head -n 1)
	for name in PolicyName Action Result Source Resource ContainerName ProcessName ParentProcessName; do
		value=$(echo "$alert" | field $name)
		[ -n "$value" ] && printf '   %-18s %s\n' "$name" "$value"
	done
	case "$alert" in
	*"\"PolicyName\":\"$2\""*"\"Action\":\"Block\""*"\"Result\":\"Permission denied\""*) ;;
	*)
		echo "   ^^ NOT AS IT SHOULD BE: expected a block by $2"
		failed=$((failed + 1))
		;;
	esac
}

say "Starting containerd, and a container with a service account token"
containerd >/tmp/containerd.log 2>&1 &
wait_for /tmp/containerd.log "containerd successfully booted"
ctr image import /opt/gorget/demo-image.tar >/dev/null || exit 1
ctr run --detach --label app=web "$IMAGE" "$CONTAINER" /bin/sleep 100000 || exit 1
# The container's /run is a fresh tmpfs: put the token there, as Kubernetes would.
in_container /bin/mkdir -p "${TOKEN%/*}"
in_container /bin/sh -c "echo demo-token > $TOKEN"

say "Without Gorget, everybody in the container reads the token"
check "cat TOKEN" works demo-token in_container /bin/cat $TOKEN
check "head TOKEN" works demo-token in_container /bin/head -n 1 $TOKEN

say "Starting the agent with two policies"
mkdir -p $POLICIES
cat >$POLICIES/token.yaml <<'POLICY'
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: only-cat-reads-the-token
spec:
  severity: 7
  message: service account token accessed
  selector:
    matchLabels:
      app: web
  action: Allow
  file:
    matchDirectories:
      - dir: /run/secrets/kubernetes.io/serviceaccount/
        recursive: true
        action: Block
      - dir: /
        recursive: true
      - dir: /run/secrets/kubernetes.io/serviceaccount/
        recursive: true
        fromSource:
          - path: /bin/cat
  process:
    matchDirectories:
      - dir: /
        recursive: true
POLICY
cat >$POLICIES/host.yaml <<'POLICY'
apiVersion: security.kubearmor.com/v1
kind: KubeArmorHostPolicy
metadata:
  name: nobody-sleeps-on-the-host
spec:
  severity: 3
  nodeSelector:
    matchLabels:
      kubernetes.io/hostname: "*"
  process:
    matchPaths:
      - path: /usr/bin/sleep
POLICY
/job/gorget policy check $POLICIES || exit 1
/job/gorgetd --log-path $ALERTS 2>$AGENT_LOG &
agent=$!
wait_for $AGENT_LOG "in force for \`$CONTAINER\`: only-cat-reads-the-token"
sed 's/.*INFO[^ ]* /   gorgetd: /' $AGENT_LOG | grep "in force for\|attached"

say "With Gorget: only cat may read the token"
check "cat TOKEN" works demo-token in_container /bin/cat $TOKEN
check "head TOKEN" fails "permission denied" in_container /bin/head -n 1 $TOKEN
check "sh: echo > TOKEN" fails "permission denied" in_container /bin/sh -c "echo x > $TOKEN"
check "mv the directory away" fails "permission denied" \
	in_container /bin/mv /run/secrets/kubernetes.io/serviceaccount /tmp/x
say "Everything else in the container works as before"
check "ls /" works usr in_container /bin/ls /
check "sh writes and reads another file" works fine \
	in_container /bin/sh -c "echo fine > /tmp/f; head -n 1 /tmp/f"
check "sleep, which is blocked on the host" works "" in_container /bin/sleep 0.01
say "The alert about head"
show_alert $TOKEN only-cat-reads-the-token

say "On the host: /usr/bin/sleep does not run, other programs do"
check "sleep 1" fails "permission denied" sh -c "sleep 1"
check "true" works "" sh -c "/usr/bin/true"
show_alert /usr/bin/sleep nobody-sleeps-on-the-host

say "The agent stops, and enforcement with it"
kill $agent
wait $agent
check "head TOKEN" works demo-token in_container /bin/head -n 1 $TOKEN

if [ $failed -eq 0 ]; then
	cat <<'SUMMARY'

== What you saw
   A policy written for KubeArmor, unchanged, was enforced by the Linux kernel on a container that
   containerd started: cat could read the token, nothing else could read, write or move it, and the
   rest of the container did not notice. A second policy kept a program from running on the host.
   Each denial came with an alert that names the policy, the program and the file.
   All of it happened in a throw-away virtual machine; your machine was not changed.
SUMMARY
	exit 0
fi
echo "$failed steps were not as they should be"
exit 1
