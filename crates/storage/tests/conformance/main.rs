//! What every store must do, done with each kind of store on a real server.
//!
//! A case that a server cannot show is named by its backend with the reason (`NOT_SHOWN`), and both end up in the table
//! of `docs/backends.md`.
//!
//! A new store needs a [`Backend`](backends::Backend) and a line at the end of this file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod backends;
#[path = "../common/mod.rs"]
mod common;
mod contract;
mod faults;
mod memory;

use backends::{
    Azurite, Backend, DavNginx, DavRclone, DavWsgidav, Directory, Gcs, Moto, Nats, OpenSsh, Oss, S3sFs,
    SftpRclone, StrictS3,
};
use walstream_test_support::outcomes;

/// Starts a server, does the case, notes the outcome.
async fn show<B: Backend, F: Future<Output = ()>>(case: &str, act: impl FnOnce(B) -> F) {
    match B::NOT_SHOWN.iter().find(|(name, _)| *name == case) {
        Some((_, reason)) => outcomes::not_shown(B::NAME, case, reason),
        None => {
            act(B::start().await).await;
            outcomes::shown(B::NAME, case);
        }
    }
}

/// The cases, for each of the backends.
macro_rules! cases {
    ($($module:ident: $backend:ident,)*) => {
        $(mod $module {
            use super::*;
            each_case! { $backend }
        })*
    };
}

/// The order of these is the order of the table.
macro_rules! each_case {
    ($backend:ident) => {
        each_case! { $backend, contract:
            an_empty_replica_is_no_error
            a_file_comes_back_with_its_time_and_size
            listings_are_ordered_and_begin_where_asked
            three_thousand_files_are_listed_and_deleted
            foreign_names_are_not_listed
            replicas_in_one_place_do_not_mix
            an_existing_file_is_left_alone
            of_eight_writers_at_once_one_wins
            ranges_are_exact
            what_is_missing_is_not_found
            deleting_twice_is_no_error
            a_long_stream_arrives_whole
            a_stream_that_breaks_leaves_nothing
            a_local_file_is_uploaded
            a_replica_of_version_03_is_found_and_read
        }
        each_case! { $backend, memory:
            a_gibibyte_needs_64_mebibytes_of_memory
        }
        each_case! { $backend, faults:
            an_upload_that_is_cut_leaves_nothing_or_all
            an_upload_whose_answer_is_lost_ends_well
            a_download_that_is_cut_goes_on
            a_busy_server_is_asked_again
            a_server_that_asks_for_a_pause_gets_it
            a_silent_server_is_an_error
            a_server_that_drips_is_an_error
            a_server_may_be_restarted
            wrong_credentials_are_one_sentence
            a_missing_bucket_is_one_sentence
            an_unreachable_server_is_one_sentence
        }
    };
    ($backend:ident, $module:ident: $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            super::show::<$backend, _>(stringify!($case), crate::$module::$case::<$backend>).await;
        })*
    };
}
cases! {
    directory: Directory,
    s3_moto: Moto,
    s3_s3s: S3sFs,
    s3_strict: StrictS3,
    oss: Oss,
    gcs: Gcs,
    azure: Azurite,
    webdav_nginx: DavNginx,
    webdav_wsgidav: DavWsgidav,
    webdav_rclone: DavRclone,
    sftp_openssh: OpenSsh,
    sftp_rclone: SftpRclone,
    nats: Nats,
}
