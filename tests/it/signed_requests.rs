//! Unbind requests that a homeserver signs (Identity Service API, `/3pid/unbind`; Server-Server API, "Request
//! Authentication"): which signatures are valid, and what the request does.

use reqwest::Method;
use serde_json::json;

use crate::support::{
    Reply,
    homeserver::Homeserver,
    published::{ADDRESS, Published, key},
    v2,
};

#[tokio::test]
async fn a_homeserver_withdraws_the_address_of_its_user() {
    // Synapse signs the first member, the specification names the second.
    for member in ["destination_is", "destination"] {
        for destination in ["id.test", "id-alias.test:8448"] {
            let published = Published::new().await;
            let content = published.content();
            let uri = v2("/3pid/unbind");
            let header = published.server.homeserver.sign_request(&uri, member, destination, &content);
            published.accepted(&header).await;
            assert!(!published.is_published().await, "{member} {destination}");
            // A second request has nothing to unbind, and succeeds.
            published.accepted(&header).await;
            assert_eq!(published.keys_fetched(), 1, "keys are remembered");
        }
    }
}

#[tokio::test]
async fn what_is_absent_or_belongs_to_another_stays_as_it_is() {
    let published = Published::new().await;
    let bob = published.server.user("bob").await;
    let cases =
        [(&bob.id, ADDRESS), (&bob.id, "bob@example.org"), (&published.alice.id, "other@example.org")];
    for (user, address) in cases {
        let content = json!({ "mxid": user, "threepid": { "medium": "email", "address": address } });
        let uri = v2("/3pid/unbind");
        let header = published.server.homeserver.sign_request(&uri, "destination_is", "id.test", &content);
        let reply = published.unbind(&header, &content).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({})), "{user} {address}");
        assert!(published.is_published().await);
    }
}

#[tokio::test]
async fn the_header_may_be_written_in_every_way_that_the_specification_allows() {
    let published = Published::new().await;
    let own = published.server.homeserver.name().to_owned();
    let plain = published.header();
    let signature = plain.split("sig=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("one");
    let url_safe = signature.replace('+', "-").replace('/', "_");
    let headers = [
        plain.replacen("X-Matrix", "x-mAtRiX", 1),
        plain.replacen("X-Matrix ", "X-Matrix    ", 1),
        plain.replace(',', " \t,\t "),
        plain.replace("origin=", "Origin=").replace("key=", "KEY=").replace("sig=", "Sig="),
        plain.replace('"', ""),
        plain.replace("id.test", "i\\d.te\\st"),
        format!("{plain},unknown=parameter,another=\"a, \\\"b\\\" = c\""),
        plain.replace(signature, &format!("{signature}==")),
        plain.replace(signature, &url_safe),
        format!(
            "X-Matrix destination=id.test,sig=\"{signature}\",key=\"ed25519:hs\",origin=\"{own}\",signature=x"
        ),
    ];
    for header in headers {
        published.accepted(&header).await;
    }
    assert!(!published.is_published().await);
}

#[tokio::test]
async fn a_malformed_header_proves_nothing() {
    let published = Published::new().await;
    let content = published.content();
    let own = published.server.homeserver.name().to_owned();
    let plain = published.header();
    let without = |name: &str| {
        let (scheme, parameters) = plain.split_once(' ').expect("a space");
        let kept: Vec<_> = parameters.split(',').filter(|part| !part.starts_with(name)).collect();
        format!("{scheme} {}", kept.join(","))
    };
    let headers = [
        String::new(),
        "X-Matrix".to_owned(),
        "X-Matrix ".to_owned(),
        "X-Matrix ,".to_owned(),
        "X-Matrix =".to_owned(),
        "X-Matrix origin".to_owned(),
        "X-Matrix dG9rZW42OA==".to_owned(),
        "Bearer token".to_owned(),
        format!("Bearer {}", published.alice.token),
        plain.replacen("X-Matrix", "X-Matrix2", 1),
        plain.replacen("X-Matrix ", "X-Matrix,", 1),
        plain.replacen("X-Matrix ", "X-Matrix", 1),
        plain.replacen("X-Matrix ", "", 1),
        without("origin"),
        without("key"),
        without("sig"),
        format!("{plain},"),
        format!("{plain},,"),
        format!("{plain},novalue"),
        format!("{plain},=value"),
        format!("{plain} x=y"),
        format!("{plain}x"),
        plain.trim_end_matches('"').to_owned(),
        format!("{}\\\"", plain.trim_end_matches('"')),
        format!("{},x=\"\\", plain),
        plain.replace(',', ";"),
        format!("{plain},origin=\"{own}\""),
        format!("{plain},SIG=\"x\""),
        format!("{plain},destination=\"id.test\""),
        plain.replace(&own, ""),
        plain.replace(&own, "not a name"),
        plain.replace(&own, &format!("{own}/")),
        plain.replace(&own, &format!("https://{own}")),
    ];
    for header in headers {
        published.refused(&header, &content).await;
    }
    let reply = published.unbind_at(&v2("/3pid/unbind"), b"X-Matrix origin=\"\xff\xfe\"", &content).await;
    reply.refused(403, "M_FORBIDDEN");
    let bare = published.server.build(Method::POST, &v2("/3pid/unbind")).body(content.to_string());
    published.server.send(bare).await.refused(403, "M_FORBIDDEN");
    assert!(published.is_published().await);
    assert_eq!(published.keys_fetched(), 0, "nobody was asked for keys");
}

#[tokio::test]
async fn a_request_for_another_server_is_refused() {
    let published = Published::new().await;
    let (content, uri) = (published.content(), v2("/3pid/unbind"));
    let home = &published.server.homeserver;
    let names = ["other.test", "ID.test", "id.test:443", "id.test.", "id-alias.test", "", "id.test,id.test"];
    for name in names {
        for member in ["destination", "destination_is"] {
            let header = home.sign_request(&uri, member, name, &content);
            published.unbind(&header, &content).await.refused(401, "M_UNAUTHORIZED");
            // The header names this server, but the signed object does not.
            let renamed = format!("destination=\"{name}\"");
            published.refused(&header.replace(&renamed, "destination=\"id.test\""), &content).await;
        }
    }
    // The server's name and its alias are different destinations.
    published.refused(&published.header().replace("\"id.test\"", "\"id-alias.test:8448\""), &content).await;
    // Older homeservers send no destination in the header; then the signed object decides.
    let for_another = home.sign_request(&uri, "destination", "other.test", &content);
    published.refused(&for_another.replace(",destination=\"other.test\"", ""), &content).await;
    // A member of another name does not count either.
    for member in ["Destination", "destination_was", "to"] {
        published.refused(&home.sign_request(&uri, member, "id.test", &content), &content).await;
    }
    assert!(published.is_published().await);
}

#[tokio::test]
async fn a_header_without_a_destination_is_as_good_as_its_signature() {
    let published = Published::new().await;
    let (content, uri) = (published.content(), v2("/3pid/unbind"));
    let home = &published.server.homeserver;
    let header = home.sign_request(&uri, "destination", "id.test", &content);
    published.accepted(&header.replace(",destination=\"id.test\"", "")).await;
    assert!(!published.is_published().await);
}

#[tokio::test]
async fn a_homeserver_speaks_for_its_own_users_only() {
    let published = Published::new().await;
    let (content, uri) = (published.content(), v2("/3pid/unbind"));
    // This homeserver is trusted like the other one, and everything else in the request is right.
    let authority = published.server.homeserver.authority.clone();
    let other = Homeserver::start_under(authority, &["127.0.0.1"], |address| address.to_string());
    let header = other.sign_request(&uri, "destination", "id.test", &content);
    published.refused(&header, &content).await;
    // A false origin does not help: both homeservers have the same key here, but the signature covers the name.
    let renamed = header.replace(other.name(), published.server.homeserver.name());
    published.refused(&renamed, &content).await;
    assert_eq!(other.connections(), 0);
    let own = json!({
        "mxid": format!("@alice:{}", other.name()),
        "threepid": { "medium": "email", "address": ADDRESS },
    });
    let header = other.sign_request(&uri, "destination", "id.test", &own);
    published.unbind(&header, &own).await.ok();
    assert!(published.is_published().await, "it was not that user's");
}

#[tokio::test]
async fn a_homeserver_that_is_served_no_more_may_still_withdraw() {
    let Published { server, alice } = Published::new().await;
    let server = server.restart(|config| config.homeservers.allow = vec!["other.test".to_owned()]);
    let published = Published { server, alice };
    published.accepted(&published.header()).await;
    let Published { server, alice } = published;
    let server = server.restart(|config| config.homeservers.allow.clear());
    assert!(!Published { server, alice }.is_published().await);
}

#[tokio::test]
async fn what_was_not_signed_is_refused() {
    let published = Published::new().await;
    let (content, plain) = (published.content(), published.header());
    let mut changes = vec![content.clone(); 6];
    changes[0]["threepid"]["address"] = json!("Alice@example.org");
    changes[1]["more"] = json!(true);
    changes[2]["more"] = json!(1.5);
    changes[3]["more"] = json!(null);
    changes[4]["threepid"]["more"] = json!(u64::MAX);
    changes[5]["signatures"] = json!({});
    for changed in changes {
        published.refused(&plain, &changed).await;
    }
    // The signature also covers the path with its query.
    let with_query = v2("/3pid/unbind?a=b");
    let reply = published.unbind_at(&with_query, plain.as_bytes(), &content).await;
    reply.refused(403, "M_FORBIDDEN");
    let home = &published.server.homeserver;
    let header = home.sign_request(&with_query, "destination", "id.test", &content);
    published.refused(&header, &content).await;
    // The signature also covers the method.
    for method in ["GET", "post", "PUT"] {
        let mut object = json!({
            "method": method,
            "uri": v2("/3pid/unbind"),
            "origin": home.name(),
            "destination": "id.test",
            "content": content,
        });
        let object = object.as_object_mut().expect("an object");
        key("ed25519:hs", 7).sign_json(home.name(), object).expect("a canonical object");
        let signature = object["signatures"][home.name()]["ed25519:hs"].as_str().expect("a signature");
        let (before, rest) = plain.split_once("sig=\"").expect("a signature");
        let (_, after) = rest.split_once('"').expect("its end");
        published.refused(&format!("{before}sig=\"{signature}\"{after}"), &content).await;
    }
    assert!(published.is_published().await);
    let reply = published.unbind_at(&with_query, header.as_bytes(), &content).await;
    reply.ok();
    assert!(!published.is_published().await);
}

#[tokio::test]
async fn a_signature_that_is_not_the_homeservers_is_refused() {
    let published = Published::new().await;
    let (content, plain) = (published.content(), published.header());
    let (before, rest) = plain.split_once("sig=\"").expect("a signature");
    let (signature, after) = rest.split_once('"').expect("its end");
    let with = |signature: &str| format!("{before}sig=\"{signature}\"{after}");
    for at in 0..signature.len() {
        let mut changed: Vec<char> = signature.chars().collect();
        changed[at] = if changed[at] == 'A' { 'B' } else { 'A' };
        published.refused(&with(&changed.into_iter().collect::<String>()), &content).await;
    }
    let zeros = "A".repeat(86);
    let twice = format!("{signature}{signature}");
    for text in ["", "=", "AAAA", "not base64!", &signature[1..], &signature[..80], &zeros, &twice] {
        published.refused(&with(text), &content).await;
    }
    // Another key under the right name, the right key under another name.
    published.refused(&published.header_by(&key("ed25519:hs", 8)), &content).await;
    for id in ["ed25519:other", "ed25519:", "ed25519", "rsa:hs", "ED25519:hs", ""] {
        published.refused(&published.header_by(&key(id, 7)), &content).await;
    }
    assert!(published.is_published().await);
    assert_eq!(published.keys_fetched(), 1, "unknown keys do not make it fetch again within a minute");
}

#[tokio::test]
async fn nothing_leaves_for_a_body_that_says_nothing() {
    let published = Published::new().await;
    let contents = [
        json!({}),
        json!({ "mxid": published.alice.id }),
        json!({ "mxid": "alice", "threepid": { "medium": "email", "address": ADDRESS } }),
        json!({ "mxid": published.alice.id, "threepid": { "medium": "email" } }),
        json!({ "mxid": published.alice.id, "threepid": { "medium": "fax", "address": ADDRESS } }),
        json!({ "mxid": published.alice.id, "threepid": { "medium": "email", "address": "alice" } }),
        json!({ "mxid": published.alice.id, "threepid": ADDRESS }),
        json!([]),
        json!(null),
    ];
    for content in contents {
        let uri = v2("/3pid/unbind");
        let home = &published.server.homeserver;
        let header = home.sign_request(&uri, "destination", "id.test", &content);
        let reply = published.unbind(&header, &content).await;
        assert_eq!(reply.status, 400, "{content}: {}", reply.text);
    }
    assert_eq!(published.keys_fetched(), 0);
    assert!(published.is_published().await);
}

#[tokio::test]
async fn each_of_several_authorization_lines_is_read() {
    let bad = |published: &Published| published.header_by(&key("ed25519:hs", 8));
    let malformed = |_: &Published| "X-Matrix origin=".to_owned();
    let of_another_scheme = |_: &Published| "Bearer abc".to_owned();
    let of_another_server = |_: &Published| {
        "X-Matrix origin=\"other.test\",key=\"ed25519:hs\",sig=\"AAAA\",destination=\"id.test\"".to_owned()
    };
    let others: [&dyn Fn(&Published) -> String; 4] =
        [&bad, &malformed, &of_another_scheme, &of_another_server];
    for (number, other) in others.into_iter().enumerate() {
        for good_is_first in [true, false] {
            let published = Published::new().await;
            let mut lines = vec![other(&published), published.header()];
            if good_is_first {
                lines.reverse();
            }
            unbind_with(&published, &lines).await.ok();
            assert!(!published.is_published().await, "case {number}, the good one first: {good_is_first}");
        }
    }
}

#[tokio::test]
async fn the_ninth_authorization_line_is_not_read() {
    let published = Published::new().await;
    let mut lines = vec![published.header_by(&key("ed25519:hs", 8)); 8];
    lines.push(published.header());
    unbind_with(&published, &lines).await.refused(403, "M_FORBIDDEN");
    assert!(published.is_published().await);
    assert_eq!(published.keys_fetched(), 1);
    lines.swap_remove(0);
    unbind_with(&published, &lines).await.ok();
    assert!(!published.is_published().await);
}

/// Asks to unbind with these `Authorization` lines.
async fn unbind_with(published: &Published, lines: &[String]) -> Reply {
    let mut request = published.server.build(Method::POST, &v2("/3pid/unbind"));
    for line in lines {
        request = request.header("authorization", line);
    }
    published.server.send(request.body(published.content().to_string())).await
}
