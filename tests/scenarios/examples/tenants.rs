//! `examples/tenants`: every command of its document, in its order.

use walstream_test_support::{Running, wait_until};

use super::{Machine, block, blocks, example, lose, moment, terminate};
use crate::site::SOON;

const ACME: &str = "/var/lib/tenants/acme.db";
const OTHER: &str = "/var/lib/tenants/other.db";

/// The daemon knows this many tenants.
#[track_caller]
fn wait_until_listed(machine: &Machine, tenants: usize) {
    wait_until("they are listed", SOON, || {
        let said = machine.type_in("walstream list -socket /run/walstream/tenants.sock").stdout;
        said.matches(".db").count() == tenants
    });
}

fn daemon(machine: &Machine) -> Running {
    let mut daemon = machine.begin(&block(&example("tenants/README.md"), "sh daemon"));
    daemon.wait_for_output("watching directory", SOON);
    daemon
}

#[test]
fn tenants_move_in_make_mistakes_and_move_out() {
    let mut machine = Machine::new("tenants", &["/var/lib/tenants", "/run/walstream", "/tmp"]);
    let [move_in, see, look_back, go_back, move_out] =
        blocks(&example("tenants/README.md"), "sh").try_into().unwrap();
    let mut daemon = daemon(&machine);
    machine.type_in("./new-tenant other");

    machine.type_in(&move_in);
    wait_until_listed(&machine, 2);
    let said = machine.type_in(&see).stdout;
    assert!(said.contains("acme.db") && said.contains("replica_txid: "), "{said}");

    machine.put("-1m", moment());
    machine.query(ACME, "DELETE FROM note");
    machine.type_in(&see);
    let said = machine.type_in(&look_back).stdout;
    assert!(said.contains("txid") && said.ends_with("hello\n"), "{said}");
    machine.type_in(&go_back);
    assert_eq!(machine.query(ACME, "SELECT text FROM note"), "hello");
    machine.query(OTHER, "INSERT INTO note(text) VALUES ('undisturbed')");

    machine.type_in(&move_out);
    daemon.wait_for_output("database released", SOON);
    wait_until_listed(&machine, 1);
    let kept = machine.moto.keys("tenants/acme.db/").len();
    assert!(kept > 0, "its replica is gone");

    machine.type_in("./new-tenant acme");
    wait_until_listed(&machine, 2);
    machine.type_in(&see);
    assert!(machine.moto.keys("tenants/acme.db/").len() > kept, "it came back to another replica");
    terminate(daemon);
}

#[test]
fn a_new_machine_gets_all_tenants_back() {
    let machine = Machine::new("tenants", &["/var/lib/tenants", "/run/walstream", "/tmp"]);
    let first = daemon(&machine);
    for tenant in ["acme", "other"] {
        machine.type_in(&format!("./new-tenant {tenant}"));
        machine.query(&format!("/var/lib/tenants/{tenant}.db"), "INSERT INTO note(text) VALUES ('kept')");
    }
    wait_until_listed(&machine, 2);
    terminate(first);
    lose(&machine.path("/var/lib/tenants"));

    // There is no such client here; it would show this.
    let listing = "#!/bin/sh\n[ \"$1 $2\" = 's3 ls' ] && printf '%27sPRE %s/\\n' '' acme.db '' other.db\n";
    let client = machine.folder.join("aws");
    std::fs::write(&client, listing).unwrap();
    std::fs::set_permissions(&client, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    machine.install("aws", client);
    let all = blocks(&example("tenants/README.md"), "").pop().unwrap();
    machine.type_in(&all);
    for tenant in [ACME, OTHER] {
        assert_eq!(machine.query(tenant, "SELECT text FROM note"), "kept");
    }
    let second = daemon(&machine);
    wait_until_listed(&machine, 2);
    terminate(second);
}
