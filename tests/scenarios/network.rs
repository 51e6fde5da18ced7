//! Between the daemon and its store: private certificate authorities and proxies.

use std::time::Duration;

use walstream_test_support::compare::assert_same_rows;
use walstream_test_support::process::{Finished, run};
use walstream_test_support::{S3sFs, WebDav};

use crate::site::Site;
use crate::walstream;

const DEADLINE: Duration = Duration::from_secs(60);

fn with_environment(site: &Site, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
    let mut command = walstream().command(arguments);
    run(command.current_dir(site.path("")).envs(environment.iter().copied()), DEADLINE)
}

/// `replicate -once` of the site's database, and if that succeeds a restore that must give the same rows.
fn there_and_back(site: &Site, url: &str, environment: &[(&str, &str)]) -> Finished {
    let app = site.app();
    app.sell(10, 100);
    let finished = with_environment(site, &["replicate", "-once", "shop.db", url], environment);
    if finished.status.success() {
        with_environment(site, &["restore", "-force", "-o", "restored.db", url], environment).success();
        assert_same_rows(app.path(), &site.path("restored.db"));
    }
    finished
}

#[test]
fn webdav_a_private_authority_is_trusted_once_it_is_named() {
    let (site, server) = (Site::new(), WebDav::rclone_tls());
    let refused = there_and_back(&site, &server.replica_url("shop"), &[]);
    assert!(
        refused.stderr.contains("invalid peer certificate: UnknownIssuer; if the server"),
        "{refused:#?}"
    );
    let authority = WebDav::authority().display().to_string();
    there_and_back(&site, &server.replica_url("shop"), &[("SSL_CERT_FILE", &authority)]).success();
}

#[test]
fn webdav_the_bundle_of_amazons_tools_counts_for_s3() {
    // No S3 server, but it answers over TLS, and that is what matters.
    let (site, server) = (Site::new(), WebDav::rclone_tls());
    let url = format!("s3://bkt/shop?endpoint=https://{}&region=us-east-1", server.address());
    let refused = there_and_back(&site, &url, &[]);
    assert!(refused.stderr.contains("UnknownIssuer; if the server"), "{refused:#?}");
    let authority = WebDav::authority().display().to_string();
    let answered = there_and_back(&site, &url, &[("AWS_CA_BUNDLE", &authority)]);
    assert!(answered.stderr.contains("access denied"), "{answered:#?}");
    let nothing = there_and_back(&site, &url, &[("AWS_CA_BUNDLE", "/dev/null")]);
    assert!(nothing.stderr.contains("AWS_CA_BUNDLE: /dev/null: it holds no certificate"), "{nothing:#?}");
}

#[test]
fn webdav_and_s3_go_through_the_proxy_of_the_environment() {
    let (site, server, s3s) = (Site::new(), WebDav::nginx(), S3sFs::start());
    // Nobody can resolve this name, and either server takes the requests that a proxy gets.
    there_and_back(&site, "webdav://dav.invalid/shop", &[("HTTP_PROXY", &server.endpoint())]).success();
    assert!(server.files().join("shop/ltx").exists());
    let s3 = "s3://bkt/shop?endpoint=http://s3.invalid&region=us-east-1";
    let proxy = format!("http://{}", s3s.address());
    there_and_back(&site, s3, &[("HTTP_PROXY", &proxy)]).success();
    assert!(s3s.bucket().join("shop").exists());

    let without = there_and_back(&site, s3, &[("HTTP_PROXY", &proxy), ("NO_PROXY", "s3.invalid")]);
    assert!(without.stderr.contains("cannot connect to http://s3.invalid"), "{without:#?}");
}
