//! Keeping the process small.
//!
//! The C library's allocator, which SQLite uses too, keeps an arena for each thread and returns freed memory to the
//! system only from the end of one. A thousand databases that were opened side by side would leave it twice the memory
//! that they need from then on.

/// Called first in `main`, before there are threads.
pub(crate) fn prefer_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::prefer_small();
}

/// Gives back what is free from time to time, for as long as the runtime lives.
pub(crate) async fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_back().await;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::time::Duration;

    /// So often it is looked whether giving back is worth while.
    const LOOK: Duration = Duration::from_secs(60);
    /// And this much must have been freed since the last time.
    const WORTH_WHILE: usize = 4 << 20;
    /// Pieces of this size and more are taken from the system and go back to it one by one.
    const LARGE: libc::c_int = 512 << 10;

    pub(super) fn prefer_small() {
        // SAFETY: mallopt takes two ints and is called before there are threads.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }

    pub(super) async fn give_back() {
        let mut left = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            // SAFETY: both only look at and trim the allocator's own lists, under its locks.
            unsafe {
                if libc::mallinfo2().fordblks > left + WORTH_WHILE {
                    libc::malloc_trim(0);
                    left = libc::mallinfo2().fordblks;
                }
            }
        }
    }
}
