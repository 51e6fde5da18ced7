//! The shadow WAL: level-0 files beside the database, in the folder that the peer uses too.
//!
//! | step | module |
//! |---|---|
//! | where files lie, which there are | [`folder`] |
//! | what the last run left behind | [`recover`] |
//! | one process per database | [`owner_lock`] |
//! | what others may see and do of it | [`outside`] |

pub(crate) mod folder;
pub(crate) mod outside;
pub(crate) mod owner_lock;
pub(crate) mod recover;
