//! The rights of a person: their own page, a copy of their data, erasure, and the audit of exports and
//! erasures.

pub mod audit;
pub mod erasure;
pub mod export;
pub mod in_turn;
pub mod language;
mod link_requests;
pub mod own_page;
