//! A name server double on loopback UDP: it answers from a table that a test fills, says that
//! everything else does not exist, and remembers what it was asked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SRV},
    },
};
use tokio::net::UdpSocket;

use super::doubles;

/// The running double.
pub struct DnsDouble {
    /// Where it listens.
    pub address: SocketAddr,
    table: Arc<Mutex<Vec<Record>>>,
    asked: Arc<Mutex<Vec<String>>>,
    dropped: Arc<Mutex<Vec<RecordType>>>,
}

impl DnsDouble {
    /// Starts one that knows nothing.
    pub fn start() -> Self {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_nonblocking(true).expect("a socket");
        let address = socket.local_addr().expect("an address");
        let table: Arc<Mutex<Vec<Record>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let dropped: Arc<Mutex<Vec<RecordType>>> = Arc::default();
        let (table_there, asked_there, dropped_there) = (table.clone(), asked.clone(), dropped.clone());
        doubles().spawn(async move {
            let socket = UdpSocket::from_std(socket).expect("a socket");
            let mut query = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                if let Some(reply) = answer(&query[..length], &table_there, &asked_there, &dropped_there) {
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        });
        Self { address, table, asked, dropped }
    }

    /// Adds an A or AAAA record.
    pub fn address(&self, host: &str, address: impl Into<IpAddr>) {
        self.add(
            host,
            match address.into() {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            },
        );
    }

    /// Adds a CNAME record.
    pub fn alias(&self, host: &str, canonical: &str) {
        self.add(host, RData::CNAME(CNAME(absolute(canonical))));
    }

    /// Adds an SRV record.
    pub fn srv(&self, service: &str, priority: u16, port: u16, target: &str) {
        self.add(service, RData::SRV(SRV::new(priority, 0, port, absolute(target))));
    }

    /// Answers no more questions of these kinds.
    pub fn drop_questions(&self, kinds: &[RecordType]) {
        self.dropped.lock().expect("not poisoned").extend_from_slice(kinds);
    }

    fn add(&self, name: &str, data: RData) {
        // Nobody remembers an answer with this lifetime, so a test may change its mind.
        self.table.lock().expect("not poisoned").push(Record::from_rdata(absolute(name), 0, data));
    }

    /// Every question so far, as `SRV name`, sorted since some are asked at the same time.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().expect("not poisoned").clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a name")
}

fn answer(
    query: &[u8],
    table: &Mutex<Vec<Record>>,
    asked: &Mutex<Vec<String>>,
    dropped: &Mutex<Vec<RecordType>>,
) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let (mut name, kind) = (question.name().clone(), question.query_type());
    asked.lock().expect("not poisoned").push(format!("{kind} {}", name.to_ascii().trim_end_matches('.')));
    if dropped.lock().expect("not poisoned").contains(&kind) {
        return None;
    }
    let table = table.lock().expect("not poisoned");
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.add_query(question);
    let has = |name: &Name, kind: RecordType| {
        let matching =
            table.iter().filter(move |record| record.name == *name && record.record_type() == kind);
        matching.cloned().collect::<Vec<_>>()
    };
    // One alias is enough here.
    if let [alias] = &has(&name, RecordType::CNAME)[..] {
        reply.add_answer(alias.clone());
        if let RData::CNAME(CNAME(canonical)) = &alias.data {
            name = canonical.clone();
        }
    }
    if !table.iter().any(|record| record.name == name) {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    reply.add_answers(has(&name, kind));
    reply.to_vec().ok()
}
