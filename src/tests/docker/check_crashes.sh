# shellcheck shell=bash
# Containers, engine and machine end in the middle of traffic: no acknowledged event is lost or doubled, and every service that should comes back.

check_crashes() {
	check "docker kill of the server loses nothing" loses_nothing container_killed
	check "the death of the server's process loses nothing, and it comes back by itself" loses_nothing server_dies
	check "docker kill of the database loses nothing" loses_nothing database_killed
	check "the death of the engine loses nothing, and everything comes back with it" loses_nothing engine_dies
	check "an orderly restart of the engine loses nothing, and everything comes back with it" loses_nothing engine_restarts
	check "the death of the machine loses nothing, and everything comes back with it" machine_loses_nothing
}

# loses_nothing CRASH: its name is also the name of the events.
loses_nothing() {
	start_sending "$1" || return 1
	"$1" || return 1
	within 90 is_healthy || return 1
	within 30 sends_more || return 1
	stop_sending
	within 30 all_stored_once "$1"
}

# The sender goes on once the server is back.
sends_more() {
	local before
	before=$(wc -l < "$work/sent")
	within 30 has_sent $((before + 5))
}

# Docker treats a kill by hand as a stop by hand, so only another `up` starts the container again.
container_killed() {
	inside docker kill "$(container server)" && up
}

server_dies() {
	inside sh -c "kill -KILL $(inspect server '{{.State.Pid}}')"
}

database_killed() {
	inside docker kill "$(container db)" && up
}

engine_dies() {
	end_engine KILL
	start_engine
}

engine_restarts() {
	end_engine TERM
	start_engine
}

machine_loses_nothing() {
	start_sending machine_dies || return 1
	kill_machine
	stop_sending
	start_machine
	start_engine && within 90 is_healthy && within 30 all_stored_once machine_dies
}
