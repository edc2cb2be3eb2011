//! What of a network a program reaches.

use crate::isolation::{host_namespace, report};
use crate::landlock;
use crate::support::{fields, guest_spec};
use std::collections::BTreeMap;
use std::net::TcpListener;
use stockade::Network;

fn netprobe(network: Network) -> (BTreeMap<String, String>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on localhost");
    let port = listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string();
    let outcome = guest_spec(["netprobe", &port])
        .network(network)
        .run()
        .expect("the sandbox starts");
    (fields(&outcome), listener)
}

#[test]
fn network_none_reaches_nothing() {
    let (seen, _listener) = netprobe(Network::None);
    assert_eq!(
        seen["interfaces"]
            .split(',')
            .filter(|name| *name != "lo")
            .count(),
        0,
        "{seen:?}"
    );
    assert_eq!(seen["lo_up"], "0");
    // There is no way, and with Landlock not even the attempt.
    let refused = if landlock::abi() >= 4 {
        "EACCES"
    } else {
        "ENETUNREACH"
    };
    for target in ["own_loopback", "host_port", "outside"] {
        assert_eq!(seen[target], refused, "{target}");
    }
}

#[test]
fn network_loopback_reaches_itself_only() {
    let (seen, _listener) = netprobe(Network::Loopback);
    assert_eq!(seen["interfaces"], "lo");
    assert_eq!((&*seen["lo_up"], &*seen["own_loopback"]), ("1", "OK"));
    assert_eq!(
        seen["host_port"], "ECONNREFUSED",
        "the host's localhost is another"
    );
    assert_eq!(seen["outside"], "ENETUNREACH");
}

#[test]
fn network_host_is_the_hosts() {
    let (seen, _listener) = netprobe(Network::Host);
    assert_eq!(seen["host_port"], "OK");
    let inside = report(guest_spec(["report"]).network(Network::Host));
    assert_eq!(inside["ns.net"], host_namespace("net"));
    // Another user namespace owns that network: no privilege over it.
    assert_eq!(inside["CapEff"], "0000000000000000");
}
