//! The synchronous heart: hit → window → policy → ledger → changes. No clock, no thread, no socket.
