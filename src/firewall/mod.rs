//! Changes in, packets dropped. A backend is a projection of the ledger that may be thrown away at any moment: one
//! `sync` rebuilds it. Foreign rules are never touched.
