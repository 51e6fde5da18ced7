//! `examples/systemd`: the command of the unit, and the way back to an earlier state.

use std::os::unix::process::ExitStatusExt;

use walstream_test_support::compare::rows;
use walstream_test_support::wait_until;

use super::{END, Machine, block, example, lose, moment, terminate, visit};
use crate::site::SOON;

/// The value of a key of the unit.
fn of_unit(key: &str) -> String {
    let unit = example("systemd/app.service");
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(&format!("{key}=")));
    values.next().unwrap().to_owned()
}

/// A machine whose application counts visits.
fn machine() -> Machine {
    let mut machine = Machine::new("systemd", &["/var/lib/app"]);
    machine.install("app", machine.folder.join("../docker/visits.py"));
    machine.put("/usr/bin/", "");
    machine.set("DATABASE", machine.here("/var/lib/app/app.db"));
    machine.set("PORT", machine.here("8080"));
    machine.set("REPLICA_URL", machine.here("s3://my-bucket/app"));
    machine
}

/// The replica has what the application has committed.
fn wait_until_stored(machine: &Machine) {
    let (database, copy) = (machine.path("/var/lib/app/app.db"), machine.folder.join("copy.db"));
    wait_until("the visits are on the replica", SOON, || {
        machine.type_in("walstream restore -force -if-replica-exists -o copy.db s3://my-bucket/app");
        copy.exists() && rows(&copy) == rows(&database)
    });
}

#[test]
fn a_machine_that_is_new_goes_on_where_the_one_before_ended() {
    let machine = machine();
    let port = machine.port("8080");
    for counted in ["1 visits", "2 visits"] {
        let unit = machine.begin(&of_unit("ExecStart"));
        assert_eq!(visit(port), counted);
        terminate(unit);
        lose(&machine.path("/var/lib/app"));
    }
    // More than walstream's own patience with the store, and signals to walstream alone.
    assert_eq!((of_unit("TimeoutStopSec").as_str(), of_unit("KillMode").as_str()), ("90", "mixed"));
}

#[test]
fn the_commands_lead_back_to_an_earlier_state() {
    let mut machine = machine();
    let port = machine.port("8080");
    let mut unit = Some(machine.begin(&of_unit("ExecStart")));
    assert_eq!(visit(port), "1 visits");
    wait_until_stored(&machine);
    machine.put("-1m", moment());
    assert_eq!(visit(port), "2 visits");

    for line in block(&example("systemd/README.md"), "sh").lines() {
        match line {
            "systemctl stop app" => terminate(unit.take().unwrap()),
            "systemctl start app" => unit = Some(machine.begin(&of_unit("ExecStart"))),
            // There is no such user.
            line if line.starts_with("chown app: ") => {}
            line => drop(machine.type_in(line)),
        }
    }
    assert_eq!(visit(port), "2 visits", "the second visit was undone");
    terminate(unit.unwrap());
}

#[test]
fn the_exit_code_of_the_application_is_that_of_the_unit() {
    let machine = machine();
    let unit = machine.begin(&of_unit("ExecStart").replace("/usr/bin/app -port 8080", "false"));
    let finished = unit.wait(END);
    assert_eq!((finished.status.code(), finished.status.signal()), (Some(1), None), "{finished:#?}");
}
