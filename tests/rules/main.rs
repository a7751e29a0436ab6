//! The rules of the host against the kernel: what `[host]` comes to, what packets say to it, and the way back.

#[path = "../support/mod.rs"]
mod support;

mod families; // every kind of rule, in both formats, for IPv4 and IPv6
mod howtos; // the scripts of the how-tos, and the same as [host]
mod probe; // a packet is sent, and the kernel says what became of it
mod translation; // forwarding and other addresses
mod trial; // applied, confirmed, undone, refused
mod wire; // packets as bytes
