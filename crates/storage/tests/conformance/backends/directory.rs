//! A directory.

use async_trait::async_trait;
use walstream_storage::{FileConfig, ReplicaConfig};

use super::{Backend, PATH};

const NO_SERVER: &str = "there is no server";

pub(crate) struct Directory(tempfile::TempDir);

#[async_trait]
impl Backend for Directory {
    const NAME: &'static str = "directory";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[
        ("an_upload_that_is_cut_leaves_nothing_or_all", NO_SERVER),
        ("an_upload_whose_answer_is_lost_ends_well", NO_SERVER),
        ("a_download_that_is_cut_goes_on", NO_SERVER),
        ("a_busy_server_is_asked_again", NO_SERVER),
        ("a_server_that_asks_for_a_pause_gets_it", NO_SERVER),
        ("a_silent_server_is_an_error", NO_SERVER),
        ("a_server_that_drips_is_an_error", NO_SERVER),
        ("a_server_may_be_restarted", NO_SERVER),
        ("wrong_credentials_are_one_sentence", NO_SERVER),
        ("a_missing_bucket_is_one_sentence", "a directory is made when it is first needed"),
        ("an_unreachable_server_is_one_sentence", NO_SERVER),
    ];

    async fn start() -> Self {
        Directory(tempfile::tempdir().unwrap())
    }

    fn address(&self) -> String {
        String::new()
    }

    fn config(&self, _: &str, path: &str) -> ReplicaConfig {
        ReplicaConfig::File(FileConfig { path: Some(self.0.path().join(path)), access: None })
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        let path = self.0.path().join(PATH).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}
