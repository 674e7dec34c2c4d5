//! Requests and answers as ruma's types: an independent implementation of the specification.

use std::{borrow::Cow, time::Duration};

use reqwest::Method;
use ruma_common::{
    OwnedUserId,
    api::{
        IncomingResponseExt, MatrixVersion, OutgoingRequest, OutgoingRequestExt, SupportedVersions,
        auth_scheme::{AuthScheme, SendAccessToken},
        path_builder::PathBuilder,
    },
    authentication::TokenType,
    serde::{Base64, base64::UrlSafe},
    thirdparty::Medium,
};
use ruma_identity_service_api::{
    association::{bind_3pid, check_3pid_validity, email, msisdn, unbind_3pid},
    authentication::{get_account_information, logout, register},
    discovery::get_server_status,
    invitation::{sign_invitation_ed25519, store_invitation},
    keys::{get_public_key, validate_ephemeral_key},
    lookup::{IdentifierHashingAlgorithm, get_hash_parameters, lookup_3pid},
    tos::{accept_terms_of_service, get_terms_of_service},
};

use crate::support::{Server, gateway::Gateway, hash, invited::sign_url};

/// Sends a request as ruma writes it and reads the answer as ruma reads it.
async fn call<R>(
    server: &Server,
    request: R,
    auth: <R::Authentication as AuthScheme>::Input<'_>,
) -> R::IncomingResponse
where
    R: OutgoingRequest,
    R::PathBuilder: for<'a> PathBuilder<Input<'a> = Cow<'a, SupportedVersions>>,
{
    let versions = SupportedVersions { versions: [MatrixVersion::V1_1].into(), features: [].into() };
    let request =
        request.try_into_http_request::<Vec<u8>>("http://x", auth, Cow::Owned(versions)).expect("a request");
    let path = request.uri().path_and_query().expect("a path").as_str();
    let method: Method = request.method().as_str().parse().expect("a method");
    let mut built = server.build(method, path).body(request.body().clone());
    for (name, value) in request.headers() {
        built = built.header(name, value);
    }
    let reply = server.send(built).await;
    let mut response = http::Response::builder().status(reply.status.as_u16());
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let response = response.body(reply.text.as_bytes()).expect("a response");
    R::IncomingResponse::try_from_http_response(response)
        .unwrap_or_else(|error| panic!("{error}: {}", reply.text))
}

#[tokio::test]
async fn the_whole_job_in_rumas_types() {
    let server = Server::start().await;
    let user: OwnedUserId = format!("@alice:{}", server.homeserver.name()).try_into().expect("a user ID");
    call(&server, get_server_status::v2::Request::new(), SendAccessToken::None).await;

    let openid = server.homeserver.openid_token(user.as_str());
    let homeserver = server.homeserver.name().try_into().expect("a server name");
    let request =
        register::v2::Request::new(openid, TokenType::Bearer, homeserver, Duration::from_secs(3600));
    let token = call(&server, request, SendAccessToken::None).await.token;

    let terms = call(&server, get_terms_of_service::v2::Request::new(), SendAccessToken::None).await;
    let url = terms.policies["terms"].localized["en"].url.clone();
    call(&server, accept_terms_of_service::v2::Request::new(vec![url]), &token).await;
    let account = call(&server, get_account_information::v2::Request::new(), &token).await;
    assert_eq!(account.user_id, user);

    let secret: ruma_common::OwnedClientSecret = "secret".try_into().expect("a secret");
    let address = "alice@example.org".to_owned();
    let request = email::create_email_validation_session::v2::Request::new(
        secret.clone(),
        address.clone(),
        1_u32.into(),
        None,
    );
    let sid = call(&server, request, &token).await.sid;
    let mailed = server.mails()[0].token();
    let request = email::validate_email::v2::Request::new(sid.clone(), secret.clone(), mailed);
    assert!(call(&server, request, &token).await.success);
    let request = check_3pid_validity::v2::Request::new(sid.clone(), secret.clone());
    assert_eq!(call(&server, request, &token).await.address, address);

    let request = bind_3pid::v2::Request::new(sid.clone(), secret.clone(), user.clone());
    let bound = call(&server, request, &token).await;
    assert_eq!((&bound.address, &bound.medium, &bound.mxid), (&address, &Medium::Email, &user));
    assert!(bound.not_before < bound.not_after);

    let details = call(&server, get_hash_parameters::v2::Request::new(), &token).await;
    assert!(details.algorithms.contains(&IdentifierHashingAlgorithm::Sha256));
    let pepper = details.lookup_pepper;
    let hashed = hash(&address, "email", &pepper);
    let find = async || {
        let (algorithm, hashed) = (IdentifierHashingAlgorithm::Sha256, vec![hashed.clone()]);
        call(&server, lookup_3pid::v2::Request::new(algorithm, pepper.clone(), hashed), &token).await.mappings
    };
    assert_eq!(find().await[&hashed], user);

    let proof = unbind_3pid::v2::ThreePidOwnershipProof::new(sid, secret);
    let threepid = unbind_3pid::v2::ThirdPartyId::new(Medium::Email, address);
    call(&server, unbind_3pid::v2::Request::new(Some(proof), user, threepid), &token).await;
    assert!(find().await.is_empty());
    call(&server, logout::v2::Request::new(), &token).await;
}

#[tokio::test]
async fn rumas_signatures_agree_with_ours() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let signed = server.bind(&alice, "alice@example.org", "secret").await;
    let request = get_public_key::v2::Request::new("ed25519:0".try_into().expect("a key ID"));
    let key = call(&server, request, SendAccessToken::None).await.public_key;
    let keys = serde_json::from_value(serde_json::json!({ "id.test": { "ed25519:0": key.to_string() } }))
        .expect("keys");
    let object = serde_json::from_value(signed).expect("an object");
    ruma_signatures::verify_json(&keys, &object).expect("a valid signature");
}

#[tokio::test]
async fn invitations_and_telephones_in_rumas_types() {
    let gateway = Gateway::start();
    let server = Server::start_with(|config| gateway.configure(config)).await;
    let alice = server.user("alice").await;
    let user: OwnedUserId = alice.id.as_str().try_into().expect("a user ID");
    let room = "!room:hs.test".try_into().expect("a room ID");
    let request = store_invitation::v2::Request::email("bob@example.org".to_owned(), room, user.clone());
    let stored = call(&server, request, &alice.token).await;
    assert_eq!(stored.display_name, "b...@e...");

    let url = sign_url(&server.mail_to("bob@example.org", 0).await);
    let (_, key) = url.split_once("private_key=").expect("a key");
    // ruma sends the standard base64 alphabet.
    let key = Base64::<UrlSafe>::parse(key).expect("base64");
    let (bob, key) = ("@bob:elsewhere.test".try_into().expect("a user ID"), Base64::new(key.into_inner()));
    let request = sign_invitation_ed25519::v2::Request::new(bob, stored.token.clone(), key);
    let signed = call(&server, request, &alice.token).await;
    assert_eq!((signed.token, signed.sender), (stored.token, user));
    assert_eq!(signed.signatures.iter().count(), 1);
    let key = stored.public_keys.ephemeral_key.public_key;
    let request = validate_ephemeral_key::v2::Request::new(key);
    assert!(call(&server, request, SendAccessToken::None).await.valid);

    let secret: ruma_common::OwnedClientSecret = "secret".try_into().expect("a secret");
    let (country, number) = ("GB".to_owned(), "07400 123456".to_owned());
    let request = msisdn::create_msisdn_validation_session::v2::Request::new(
        secret.clone(),
        country,
        number,
        1u32.into(),
        None,
    );
    let sid = call(&server, request, &alice.token).await.sid;
    let request = msisdn::validate_msisdn::v2::Request::new(sid, secret, gateway.code());
    assert!(call(&server, request, &alice.token).await.success);
}
