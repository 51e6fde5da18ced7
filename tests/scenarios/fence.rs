//! One replica, two live databases. A database that comes new to a replica goes on where the replica ends, for that is
//! what a restored backup on a new machine does. The daemon that wrote there before must then stop: it says so, and
//! nothing of the other is overwritten.

use std::time::Duration;

use walstream_test_support::compare::assert_same_rows;
use walstream_test_support::replica::{file_url, newest_txid};
use walstream_test_support::{App, Moto, wait_until};

use crate::refusal::assert_refused;
use crate::walstream;

const DEADLINE: Duration = Duration::from_secs(30);

fn who_was_there_before_must_stop(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) =
        (App::open(folder.path().join("first.db")), App::open(folder.path().join("second.db")));
    first.sell(10, 100);
    walstream().replicate_once(first.path(), url);
    let mut daemon_of_first = walstream().replicate(first.path(), url).ready();
    second.sell(20, 100);
    walstream().replicate_once(second.path(), url);

    first.sell(10, 100);
    daemon_of_first.process.wait_for_output("belongs to another writer", DEADLINE);
    first.sell(10, 100);
    daemon_of_first.process.stop(DEADLINE);

    let restored = folder.path().join("restored.db");
    walstream().restore(url, &restored, &[]);
    assert_same_rows(second.path(), &restored);
    second.sell(1, 1);
    walstream().replicate_once(second.path(), url);
    walstream().restore(url, &restored, &["-force"]);
    assert_same_rows(second.path(), &restored);
}

#[test]
fn two_databases_in_one_directory() {
    let folder = tempfile::tempdir().unwrap();
    who_was_there_before_must_stop(&file_url(&folder.path().join("replica")));
}

#[test]
fn two_databases_in_one_bucket_on_moto() {
    let moto = Moto::start();
    who_was_there_before_must_stop(&moto.replica_url("shop"));
}

/// Two daemons on one database would each ship half of it.
#[test]
fn a_second_daemon_on_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    let url = file_url(&replica);
    let app = App::open(folder.path().join("shop.db"));
    let daemon = walstream().replicate(app.path(), &url).ready();
    wait_until("the daemon has the database", DEADLINE, || newest_txid(&replica) > 0);
    let refused = walstream().run(["replicate", "-once", app.path().to_str().unwrap(), &url]);
    assert_refused(&refused, &["shop.db", "another walstream process"]);
    daemon.stop();
}
