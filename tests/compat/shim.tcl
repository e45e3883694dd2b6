# Sourced by the suite's test_helper.tcl, in a copy of it, before it reads its arguments. Changes no test; it only
# keeps one error from taking the tests behind it along:
#  - an error that is not a failed assertion fails its test, not the rest of the file;
#  - a setting that start_server asks for and that the server refuses is left as it is.

rename test suite_test
proc test {name args} {
    if {[catch {uplevel 1 [list suite_test $name {*}$args]} error]} {
        incr ::num_failed
        send_data_packet $::test_server_fd err "$name in $::curfile\n$error"
        # The connection may be in the middle of anything.
        catch {reconnect}
    }
}

set body [info body run_external_server_test]
foreach call {{r config set $param $val} {dict set saved_config $param [lindex [r config get $param] 1]}} {
    if {[string first $call $body] < 0} { error "the suite has changed: no '$call'" }
    set body [string map [list $call "catch {$call}"] $body]
}
proc run_external_server_test {code overrides} $body
