//! An emulator of Google Cloud Storage with its front: says in one line where both listen, and serves until it is ended.
//! With the argument `deny` it answers every request with 403.

fn main() {
    walstream_test_support::gcs::serve(std::env::args().nth(1).as_deref() == Some("deny"));
}
