//! In an object store of NATS JetStream, whose top is the replica: Litestream knows no path there.

use walstream_test_support::NatsServer;
use walstream_test_support::replica::last_txids;

use crate::site::Site;

fn on(server: &NatsServer) -> Site<'_> {
    Site::by_url(server.replica_url(), || last_txids(&server.files()))
}

#[test]
fn take_over_on_nats() {
    on(&NatsServer::start()).programs_take_turns(|_| {});
}

#[test]
fn walstream_to_litestream_on_nats_every_txid() {
    on(&NatsServer::start()).litestream_restores_what_walstream_wrote();
}
