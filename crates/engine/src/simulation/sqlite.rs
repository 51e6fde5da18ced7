//! A hand in SQLite's own files: every write, truncation and fsync of a database in a simulated world is told to the
//! disk of that world, which may refuse it, and may let others act at the moments at which the kernel could.
//!
//! SQLite's default VFS stays what it is. Only the methods of the files that it opens are replaced, and those call the
//! original ones.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::ffi;

use super::disk::{Edit, FragileDisk};

type FilePointer = *mut ffi::sqlite3_file;

/// The first of the locks that nobody holds for longer than a moment: recovery and the read marks.
const FIRST_BRIEF_LOCK: c_int = 2;

#[derive(Clone)]
struct Opened {
    disk: FragileDisk,
    path: PathBuf,
    /// What SQLite would have called: one table for files with locks, another for files without.
    methods: ffi::sqlite3_io_methods,
    /// The brief locks of the wal-index that this file holds exclusively; nobody else could do anything meanwhile.
    brief_locks: u32,
}

struct Original(ffi::sqlite3_vfs);

// SAFETY: the pointers in it lead to SQLite's own static tables.
unsafe impl Send for Original {}
// SAFETY: as above, and nothing in it changes.
unsafe impl Sync for Original {}

static ORIGINAL: OnceLock<Original> = OnceLock::new();
static WORLDS: Mutex<BTreeMap<PathBuf, FragileDisk>> = Mutex::new(BTreeMap::new());
static OPENED: Mutex<BTreeMap<usize, Opened>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on the databases in `folder` lie on `disk`.
pub(super) fn watch(folder: &Path, disk: &FragileDisk) {
    ORIGINAL.get_or_init(install);
    lock(&WORLDS).insert(folder.to_owned(), disk.clone());
}

/// Ends what [`watch`] began.
pub(super) fn forget(folder: &Path) {
    lock(&WORLDS).remove(folder);
}

fn install() -> Original {
    // SAFETY: SQLite's default VFS is a static table. The copy that is registered lives as long as the process.
    unsafe {
        ffi::sqlite3_initialize();
        let vfs = *ffi::sqlite3_vfs_find(std::ptr::null());
        let watched = ffi::sqlite3_vfs {
            zName: c"walstream-simulation".as_ptr(),
            pNext: std::ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xSleep: Some(sleep),
            ..vfs
        };
        ffi::sqlite3_vfs_register(Box::leak(Box::new(watched)), 1);
        Original(vfs)
    }
}

fn original() -> &'static ffi::sqlite3_vfs {
    &ORIGINAL.get().unwrap().0
}

fn disk_of(path: &Path) -> Option<FragileDisk> {
    lock(&WORLDS).get(path.parent()?).cloned()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: FilePointer,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: called by SQLite as its own xOpen, and passed on as it came.
    let code = unsafe { (original().xOpen.unwrap())(vfs, name, file, flags, out) };
    if code != ffi::SQLITE_OK || name.is_null() {
        return code;
    }
    // SAFETY: `name` is a C string; `file` was just opened, so that its methods are set, to those of its VFS.
    unsafe {
        let path = PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes()));
        if let Some(disk) = disk_of(&path) {
            let methods = *(*file).pMethods;
            (*file).pMethods = patched(&methods);
            lock(&OPENED).insert(file as usize, Opened { disk, path, methods, brief_locks: 0 });
        }
    }
    code
}

/// A table with our methods where the original has its own.
fn patched(methods: &ffi::sqlite3_io_methods) -> &'static ffi::sqlite3_io_methods {
    static WITH_SHM: OnceLock<ffi::sqlite3_io_methods> = OnceLock::new();
    static WITHOUT_SHM: OnceLock<ffi::sqlite3_io_methods> = OnceLock::new();
    let table = if methods.xShmMap.is_some() { &WITH_SHM } else { &WITHOUT_SHM };
    table.get_or_init(|| ffi::sqlite3_io_methods {
        xClose: Some(close),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xShmMap: methods.xShmMap.and(Some(shm_map)),
        xShmLock: methods.xShmLock.and(Some(shm_lock)),
        ..*methods
    })
}

thread_local! {
    static IN_A_HURRY: Cell<bool> = const { Cell::new(false) };
}

/// Does something without ever sleeping: whoever is waited for does nothing meanwhile.
pub(super) fn without_sleep<T>(act: impl FnOnce() -> T) -> T {
    let before = IN_A_HURRY.replace(true);
    let done = act();
    IN_A_HURRY.set(before);
    done
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    if IN_A_HURRY.get() {
        return microseconds;
    }
    // SAFETY: called by SQLite as its own xSleep.
    unsafe { (original().xSleep.unwrap())(vfs, microseconds) }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: called by SQLite as its own xDelete; `name` is a C string.
    unsafe {
        let path = PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes()));
        match disk_of(&path).map_or(Ok(()), |disk| disk.edit(&path, None, Edit::Remove)) {
            Err(refused) if !refused.done => ffi::SQLITE_IOERR_DELETE,
            Err(_) => {
                (original().xDelete.unwrap())(vfs, name, sync);
                ffi::SQLITE_IOERR_DELETE
            }
            Ok(()) => (original().xDelete.unwrap())(vfs, name, sync),
        }
    }
}

/// What is known of a file.
fn opened(file: FilePointer) -> Opened {
    lock(&OPENED)[&(file as usize)].clone()
}

/// What is in a file now. Never by a descriptor of its own: closing that would drop the locks of this process.
unsafe fn content(file: FilePointer, methods: &ffi::sqlite3_io_methods) -> Vec<u8> {
    // SAFETY: `file` is open, and these are its methods.
    unsafe {
        let mut size = 0;
        (methods.xFileSize.unwrap())(file, &raw mut size);
        let mut bytes = vec![0u8; size as usize];
        (methods.xRead.unwrap())(file, bytes.as_mut_ptr().cast(), size as c_int, 0);
        bytes
    }
}

/// Lets others act, unless this file holds a lock that would keep them waiting.
fn pause(opened: &Opened) {
    if opened.brief_locks == 0 {
        opened.disk.pause();
    }
}

/// Does one thing to a file, if the disk permits; `refusal` is SQLite's name for it.
unsafe fn edit(
    file: FilePointer,
    edit: Edit,
    refusal: c_int,
    act: impl FnOnce(&ffi::sqlite3_io_methods) -> c_int,
) -> c_int {
    let opened = opened(file);
    pause(&opened);
    // SAFETY: `file` is open, and these are its methods.
    let before = || unsafe { content(file, &opened.methods) };
    match opened.disk.edit(&opened.path, Some(&before), edit) {
        Ok(()) => act(&opened.methods),
        Err(refused) => {
            if refused.done {
                act(&opened.methods);
            }
            if refused.is_full() { ffi::SQLITE_FULL } else { refusal }
        }
    }
}

unsafe extern "C" fn close(file: FilePointer) -> c_int {
    let opened = lock(&OPENED).remove(&(file as usize)).unwrap();
    // SAFETY: called by SQLite as its own xClose.
    unsafe { (opened.methods.xClose.unwrap())(file) }
}

unsafe extern "C" fn write(file: FilePointer, from: *const c_void, amount: c_int, at: i64) -> c_int {
    // SAFETY: called by SQLite as its own xWrite: `from` has `amount` bytes.
    unsafe {
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), amount as usize);
        let change = Edit::Write(at as usize, bytes.to_vec());
        edit(file, change, ffi::SQLITE_IOERR_WRITE, |methods| {
            (methods.xWrite.unwrap())(file, from, amount, at)
        })
    }
}

unsafe extern "C" fn truncate(file: FilePointer, size: i64) -> c_int {
    // SAFETY: called by SQLite as its own xTruncate.
    unsafe {
        edit(file, Edit::Resize(size as usize), ffi::SQLITE_IOERR_TRUNCATE, |methods| {
            (methods.xTruncate.unwrap())(file, size)
        })
    }
}

unsafe extern "C" fn sync(file: FilePointer, flags: c_int) -> c_int {
    // SAFETY: called by SQLite as its own xSync.
    unsafe {
        edit(file, Edit::Sync, ffi::SQLITE_IOERR_FSYNC, |methods| (methods.xSync.unwrap())(file, flags))
    }
}

unsafe extern "C" fn shm_map(
    file: FilePointer,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    let opened = opened(file);
    pause(&opened);
    // SAFETY: called by SQLite, or in its manner, as its own xShmMap.
    unsafe { (opened.methods.xShmMap.unwrap())(file, region, size, extend, out) }
}

unsafe extern "C" fn shm_lock(file: FilePointer, first: c_int, count: c_int, flags: c_int) -> c_int {
    let before = opened(file);
    pause(&before);
    // SAFETY: called by SQLite as its own xShmLock.
    let code = unsafe { (before.methods.xShmLock.unwrap())(file, first, count, flags) };
    let brief = (first..first + count).filter(|&slot| slot >= FIRST_BRIEF_LOCK);
    let slots = brief.fold(0u32, |slots, slot| slots | 1 << slot);
    if code == ffi::SQLITE_OK
        && let Some(opened) = lock(&OPENED).get_mut(&(file as usize))
    {
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            opened.brief_locks &= !slots;
        } else if flags & ffi::SQLITE_SHM_EXCLUSIVE != 0 {
            opened.brief_locks |= slots;
        }
    }
    pause(&opened(file));
    code
}
