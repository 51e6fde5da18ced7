//! `examples/follower`: one machine writes, another reads.

use walstream_test_support::wait_until;

use super::{Machine, block, example, terminate, visit};
use crate::site::SOON;

#[test]
fn what_one_machine_writes_is_read_on_another() {
    let machine = Machine::new("follower", &["/data", "/srv/visits"]);
    let (writes, reads) = (machine.port("8080"), machine.port("8081"));
    let command = |kind: &str| block(&example("follower/README.md"), kind);

    let writer = machine.begin(&command("sh writer"));
    assert_eq!([visit(writes), visit(writes)], ["1 visits", "2 visits"]);
    // A copy begins with what is on the replica.
    wait_until("there is a replica", SOON, || !machine.moto.keys("visits/0009/").is_empty());
    let reader = machine.begin(&command("sh reader"));
    wait_until("both are read", SOON, || visit(reads).starts_with("2 visits, the newest at 20"));
    let said = machine.type_in(&command("sh")).stdout;
    assert!(said.contains("2 visits") && said.contains("\nlitestream_follower_lag_seconds{"), "{said}");

    assert_eq!(visit(writes), "3 visits");
    wait_until("the third is read", SOON, || visit(reads).starts_with("3 visits"));
    terminate(reader);
    terminate(writer);
}
