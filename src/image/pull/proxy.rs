//! Proxies, by the environment's variables, as curl reads them: the names in lower case come first. `NO_PROXY` is a list
//! as Go has it, since that is what docker and podman are set up by.

use super::reference::is_loopback;
use std::net::IpAddr;
use ureq::http::Uri;

/// What the variables say.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    https: Option<String>,
    http: Option<String>,
    no: String,
}

impl Proxies {
    pub fn from_env() -> Proxies {
        Proxies::new(|name| std::env::var(name).ok())
    }

    fn new(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |name: &str| {
            let lower = variable(&name.to_ascii_lowercase()).filter(|text| !text.is_empty());
            lower
                .or_else(|| variable(name))
                .filter(|text| !text.is_empty())
        };
        // To a CGI program that one is the request's header `Proxy`.
        let http = match variable("REQUEST_METHOD") {
            Some(_) => variable("http_proxy").filter(|text| !text.is_empty()),
            None => either("HTTP_PROXY"),
        };
        let all = either("ALL_PROXY");
        Proxies {
            https: either("HTTPS_PROXY").or_else(|| all.clone()),
            http: http.or(all),
            no: either("NO_PROXY").unwrap_or_default(),
        }
    }

    /// The proxy to go through, if any. This machine is always reached directly.
    pub fn of(&self, uri: &Uri) -> Option<&str> {
        let https = uri.scheme_str() == Some("https");
        let proxy = if https { &self.https } else { &self.http }.as_deref()?;
        let host = uri.host()?;
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let direct = is_loopback(host) || self.no.split(',').any(|rule| excludes(rule, host, port));
        (!direct).then_some(proxy)
    }
}

/// Whether a part of `NO_PROXY` is about this host: `*`, an address, a network, or a domain with all below it, maybe
/// with a port.
fn excludes(rule: &str, host: &str, port: u16) -> bool {
    let rule = rule.trim().to_ascii_lowercase();
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    if let Some((network, bits)) = rule.split_once('/') {
        return match (network.parse(), bits.parse(), host.parse()) {
            (Ok(network), Ok(bits), Ok(ip)) => within(ip, network, bits),
            _ => false,
        };
    }
    let (rule, only) = match rule.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (name.to_string(), Some(port.to_string()))
        }
        _ => (rule, None),
    };
    if only.is_some_and(|only| only != port.to_string()) {
        return false;
    }
    let rule = rule.trim_matches(['[', ']']);
    let domain = rule.trim_start_matches('*').trim_start_matches('.');
    let is_below = host
        .strip_suffix(domain)
        .is_some_and(|before| before.ends_with('.'));
    match rule {
        "" => false,
        "*" => true,
        // Only what is below it.
        rule if rule.starts_with(['.', '*']) => !domain.is_empty() && is_below,
        _ => host == domain || is_below,
    }
}

fn within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0)
    };
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::new(|name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn which() {
        let of = |proxies: &Proxies, uri: &str| proxies.of(&uri.parse().unwrap()).map(String::from);
        let all = proxies(&[("HTTPS_PROXY", "http://p:1"), ("http_proxy", "http://q:1")]);
        assert_eq!(
            of(&all, "https://a.example/x").as_deref(),
            Some("http://p:1")
        );
        assert_eq!(
            of(&all, "http://a.example/x").as_deref(),
            Some("http://q:1")
        );
        for here in [
            "https://localhost:5000/",
            "http://127.0.0.1/",
            "https://[::1]:5/",
        ] {
            assert_eq!(of(&all, here), None, "{here}");
        }
        assert_eq!(of(&proxies(&[]), "https://a.example/"), None);
        let every = proxies(&[("ALL_PROXY", "http://r:1"), ("HTTPS_PROXY", "")]);
        assert_eq!(
            of(&every, "https://a.example/").as_deref(),
            Some("http://r:1")
        );
        let lower = proxies(&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "http://l:1")]);
        assert_eq!(
            of(&lower, "https://a.example/").as_deref(),
            Some("http://l:1")
        );
        let cgi = proxies(&[("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(of(&cgi, "http://a.example/"), None);
    }

    #[test]
    fn none_for_some() {
        for (rules, host, port, excluded) in [
            ("example.com", "example.com", 443, true),
            ("example.com", "a.EXAMPLE.com", 443, true),
            ("example.com", "badexample.com", 443, false),
            (".example.com", "a.example.com", 443, true),
            (".example.com", "example.com", 443, false),
            ("*.example.com", "a.example.com", 443, true),
            ("example.com:5000", "example.com", 5000, true),
            ("example.com:5000", "example.com", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("10.0.0.0/8", "host.example", 443, false),
            ("fd00::/8", "[fd12::1]", 443, true),
            ("0.0.0.0/0", "1.2.3.4", 443, true),
            ("1.2.3.4", "1.2.3.4", 443, true),
            ("*", "anything", 443, true),
            ("", "anything", 443, false),
            (".", "anything.", 443, false),
            ("a.example, b.example", "b.example", 443, true),
            ("1.2.3.4/99", "1.2.3.4", 443, false),
        ] {
            let is = rules.split(',').any(|rule| excludes(rule, host, port));
            assert_eq!(is, excluded, "{rules} {host}:{port}");
        }
    }
}
