//! How fast the store may be used, as the configuration says.

use std::time::{Duration, Instant};

use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::{App, Moto};

use crate::walstream;

#[test]
fn uploads_and_restores_keep_to_the_rate() {
    let (server, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let app = App::open(folder.path().join("shop.db"));
    // Blobs that do not compress.
    app.execute("CREATE TABLE photo (content BLOB)");
    app.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO photo SELECT randomblob(100000) FROM n");
    let config = folder.path().join("c.yml");
    let url = server.replica_url("shop");
    let text = format!(
        "upload-rate: 2MB\ndbs:\n- path: {}\n  replica:\n    url: {url}\n    download-rate: 1500KB\n",
        app.path().display()
    );
    std::fs::write(&config, text).unwrap();

    // 6 MB of photos: a second's worth may go at once.
    let begun = Instant::now();
    walstream()
        .run(["replicate".as_ref(), "-once".as_ref(), "-config".as_ref(), config.as_os_str()])
        .success();
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());

    let restored = folder.path().join("restored.db");
    let begun = Instant::now();
    let arguments = [
        "restore".as_ref(),
        "-config".as_ref(),
        config.as_os_str(),
        "-o".as_ref(),
        restored.as_os_str(),
        app.path().as_os_str(),
    ];
    walstream().run(arguments).success();
    assert!(begun.elapsed() >= Duration::from_millis(2900), "{:?}", begun.elapsed());
    assert_same_pages(app.path(), &restored);
}
