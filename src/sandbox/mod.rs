//! What each process gives up once it holds what it needs: its user, its capabilities, files that are none of its
//! business, system calls that it never makes. In: the configuration. Out: a process that can do little else but its work.
//! It is done before the process has a second thread, because the kernel gives these things up thread by thread.

mod calls;
pub(crate) mod capabilities;
mod fence;
pub(crate) mod folders;
pub(crate) mod identity;
pub(crate) mod trust;

pub(crate) use calls::Calls;
pub(crate) use fence::{Fence, Lost, journalctl};
