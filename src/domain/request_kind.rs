//! The kinds of requests, for the access log and the metrics.

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Lookups of addresses.
    Lookup,
    /// Requests for the pepper.
    HashDetails,
    /// Registrations.
    Register,
    /// The caller's account, logout, and the terms.
    Account,
    /// Validations of an address.
    Validation,
    /// Binds.
    Bind,
    /// Unbinds.
    Unbind,
    /// Invitations, and accepting them.
    Invite,
    /// Public keys.
    Keys,
    /// Versions and ping.
    Status,
    /// Pages for people.
    Page,
    /// Anything else.
    Other,
}

/// How many kinds there are.
pub const KINDS: usize = 12;

/// Their names, in the order of [`RequestKind`].
pub const KIND_NAMES: [&str; KINDS] = [
    "lookup",
    "hash_details",
    "register",
    "account",
    "validation",
    "bind",
    "unbind",
    "invite",
    "keys",
    "status",
    "page",
    "other",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_name() {
        assert_eq!(KIND_NAMES[RequestKind::Lookup as usize], "lookup");
        assert_eq!(KIND_NAMES[RequestKind::Unbind as usize], "unbind");
        assert_eq!(RequestKind::Other as usize, KINDS - 1);
    }
}
