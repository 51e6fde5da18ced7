//! On an SSH server, as configuration files describe it: both programs know the server by its key, and log in with one.

use walstream_test_support::Sshd;
use walstream_test_support::replica::txids;

use crate::site::Site;

fn on(server: &Sshd) -> Site<'_> {
    Site::by_config(&server.replica("shop"), || txids(&server.files().join("shop")))
}

#[test]
fn take_over_on_sftp() {
    on(&Sshd::start()).programs_take_turns(|_| {});
}

#[test]
fn walstream_to_litestream_on_sftp_every_txid() {
    on(&Sshd::start()).litestream_restores_what_walstream_wrote();
}
