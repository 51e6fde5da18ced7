//! `replicate -once`, again and again, as cron runs it.

use walstream_test_support::App;
use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::replica::{file_url, ltx_files};

use crate::walstream;

#[test]
fn local_files_do_not_pile_up() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, restored) = (folder.path().join("replica"), folder.path().join("restored.db"));
    let app = App::open(folder.path().join("shop.db"));
    for _ in 0..4 {
        app.sell(3, 100);
        walstream().replicate_once(app.path(), &file_url(&replica));
        assert_eq!(ltx_files(&folder.path().join(".shop.db-litestream"), 0).len(), 1);
    }
    assert_eq!(ltx_files(&replica, 0).len(), 4, "on the replica nothing is deleted unasked");
    walstream().restore(&file_url(&replica), &restored, &[]);
    assert_same_pages(app.path(), &restored);
}
