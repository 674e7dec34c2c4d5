//! Operations without HTTP: a core on a database in memory, beside no homeserver, and people with small numbers.

use std::{net::Ipv4Addr, sync::Arc};

use bindery::{
    config::Config,
    domain::{
        clock::Clock,
        ids::{ClientSecret, OpenIdToken, UserId},
        network::Network,
        refusal::Refusal,
        server_name::ServerName,
        signing::PublicKeys,
        threepid::Address,
    },
    ops::{
        Core, Failure, HomeserverError, Homeservers,
        account::{
            register,
            tokens::{self, Authenticated},
        },
        genesis,
        lookup::{self, Lookup},
    },
    store::Store,
};
use futures_util::future::{BoxFuture, FutureExt};
use redb::backends::InMemoryBackend;

use super::{TestClock, hash};

/// Nobody is asked anything here.
struct NoHomeservers;

impl Homeservers for NoHomeservers {
    fn token_owner<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a OpenIdToken,
        _: Network,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>> {
        async { Err(HomeserverError::Unreachable) }.boxed()
    }

    fn signing_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a str,
        _: Network,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>> {
        async { Err(HomeserverError::Unreachable) }.boxed()
    }
}

pub fn user(number: u8) -> UserId {
    UserId::parse(&format!("@user{number}:hs.test")).expect("a user ID")
}

pub fn address(number: u8) -> Address {
    Address::email(&format!("address{number}@example.org")).expect("an address")
}

pub fn secret(number: u8) -> ClientSecret {
    ClientSecret::parse(&format!("secret{number}")).expect("a secret")
}

/// An account that has just registered.
pub async fn authenticated(core: &Core, user: UserId) -> Authenticated {
    let token = register::register(core, user).await.expect("a token");
    tokens::authenticate(core, &token).expect("a good token")
}

/// The Matrix ID that an email address leads to under a pepper; the refusal if the pepper may not be used.
pub fn find(
    core: &Core,
    account: &Authenticated,
    pepper: &str,
    address: &Address,
) -> Result<Option<String>, Refusal> {
    let addresses = [hash(address.as_str(), "email", pepper)];
    let request = Lookup { algorithm: "sha256", pepper, addresses: &addresses };
    let mut found = None;
    let caller = Ipv4Addr::LOCALHOST.into();
    match lookup::run(core, account, caller, &request, |_, user_id| found = Some(user_id.to_owned())) {
        Ok(()) => Ok(found),
        Err(Failure::Refused(refusal)) => Err(refusal),
        Err(failure) => panic!("the server failed: {failure}"),
    }
}

/// Operations on a database in memory, beside no homeserver.
pub async fn core_in_memory(clock: Arc<TestClock>) -> Core {
    let name = ServerName::parse("id.test").expect("a name");
    let store =
        Store::on_backend(InMemoryBackend::new(), &name, || genesis(clock.now())).expect("a database");
    core_on(store, clock).await
}

/// Operations on this database, beside no homeserver.
pub async fn core_on(store: Store, clock: Arc<TestClock>) -> Core {
    core_with(store, clock, |_| {}).await
}

/// As [`core_on`], with other settings.
pub async fn core_with(store: Store, clock: Arc<TestClock>, change: impl FnOnce(&mut Config)) -> Core {
    // Mails to owners are tested elsewhere; here they would lie between the rows of invitations.
    let mut config = Config::default();
    config.privacy.notify_owners = false;
    change(&mut config);
    Core::open(Arc::new(config), store, clock, Arc::new(NoHomeservers)).await.expect("a core")
}
