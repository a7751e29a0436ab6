//! Memory that a million bans needed for a moment goes back to the system. glibc's allocator would keep much of it: it makes
//! an arena for each thread, and has blocks of up to 32 MiB in them once one of that size was freed. It is told otherwise by
//! the environment, which it reads when a process starts.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// mallopt(3). From an eighth of a MiB on, blocks stand alone, whatever was freed before: batches of hits come and go all
/// the time, and what stays would settle between them, in a heap that never shrinks. Sled has some fifty such blocks of which
/// it touches next to nothing, and so have the lanes; in a heap they would be cleared. A smaller threshold for what is given
/// back at the heap's end costs time.
const WISHES: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "2097152")];

/// What this process was told, or else our wishes, for a process that it starts.
pub(crate) fn wishes() -> impl Iterator<Item = (&'static str, OsString)> {
    WISHES.into_iter().map(|(name, value)| (name, std::env::var_os(name).unwrap_or_else(|| value.into())))
}

/// Starts this program anew in its place, as the same process, unless it was told already. Without that it only weighs more.
pub(crate) fn insist() {
    if WISHES.iter().all(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = std::env::args_os();
    let Some((program, name)) = std::env::current_exe().ok().zip(arguments.next()) else { return };
    let why = Command::new(program).arg0(name).args(arguments).envs(wishes()).exec();
    log::debug!("it cannot be started anew, and will keep freed memory: {why}");
}
