//! One request and its answer, over redirects: who may be asked how, and what is told to whom.

use super::failure::{Again, Failure};
use super::proxy::Proxies;
use super::wire::{Names, Tcp};
use crate::error::Error;
use crate::image::fs::shown;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use ureq::config::Config;
use ureq::http::{Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};
use ureq::{Agent, Body, Proxy};

pub(super) type Response = ureq::http::Response<Body>;

/// Most redirects that one request follows.
const REDIRECTS_MAX: usize = 10;
/// Longest header of an answer.
const HEADER_MAX: usize = 64 << 10;

/// What a pull sends its requests through.
pub(super) struct Http {
    pub tcp: Tcp,
    pub tls_verify: bool,
    pub ca_file: Option<PathBuf>,
    pub proxies: Proxies,
    pub roots: OnceLock<RootCerts>,
    /// By scheme and authority, with the connections that wait for another request.
    pub agents: Mutex<HashMap<String, Agent>>,
}

/// A request.
#[derive(Clone, Copy, Default)]
pub(super) struct Request<'r> {
    pub accept: Option<&'r str>,
    /// The first byte that is wanted.
    pub from: u64,
    /// The header `Authorization`: for where the request goes, and not for where that redirects it.
    pub authorization: Option<&'r str>,
    /// What is posted. Without it the request is a GET.
    pub form: Option<&'r [(&'r str, &'r str)]>,
}

/// An answer.
pub(super) struct Answer {
    pub response: Response,
    /// The host that gave it.
    pub host: String,
    /// Whether that is the one that was asked.
    pub direct: bool,
}

impl Http {
    /// Sends a request, and again where it is redirected to.
    pub fn send(&self, uri: &Uri, request: Request<'_>) -> Result<Answer, Failure> {
        let mut request = request;
        let mut at = uri.clone();
        for _ in 0..=REDIRECTS_MAX {
            let host = host(&at);
            let response = self.once(&at, request).map_err(|error| match error {
                Trouble::Http(error) => Failure::of(&host, self.tcp.patience, error),
                // Where no authority is known nobody can be asked by TLS, who may be asked without all the same.
                Trouble::Own(error) => Failure {
                    again: match error.step() {
                        "tls" => Again::Plain,
                        _ => Again::No,
                    },
                    error,
                },
            })?;
            let to = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => response.headers().get(header::LOCATION),
                _ => None,
            };
            let Some(to) = to else {
                let direct = origin(&at) == origin(uri);
                return Ok(Answer {
                    response,
                    host,
                    direct,
                });
            };
            let refuse = |why: &str| {
                Failure::new("redirect", format!("`{host}` redirects {why}"), Again::No)
            };
            if request.form.is_some() {
                return Err(refuse("what was posted"));
            }
            let next = to.to_str().ok().and_then(|to| resolve(&at, to));
            let next = next.ok_or_else(|| refuse("to what is no URL"))?;
            match (at.scheme_str(), next.scheme_str()) {
                (_, Some("https")) | (Some("http"), Some("http")) => {}
                _ => return Err(refuse("to something that is not HTTPS")),
            }
            // Once it has left there, it is not trusted with the way back either.
            if origin(&next) != origin(&at) {
                request.authorization = None;
            }
            at = next;
        }
        Err(Failure::new(
            "redirect",
            format!("`{}` redirects more than {REDIRECTS_MAX} times", host(uri)),
            Again::No,
        ))
    }

    fn once(&self, uri: &Uri, request: Request<'_>) -> Result<Response, Trouble> {
        self.tcp.stop.check().map_err(|e| Trouble::Http(e.into()))?;
        let agent = self.agent(uri)?;
        let Some(form) = request.form else {
            let mut get = agent.get(uri);
            if let Some(accept) = request.accept {
                get = get.header(header::ACCEPT, accept);
            }
            if request.from > 0 {
                get = get.header(header::RANGE, format!("bytes={}-", request.from));
            }
            if let Some(authorization) = request.authorization {
                get = get.header(header::AUTHORIZATION, authorization);
            }
            return get.call().map_err(Trouble::Http);
        };
        let form = form.iter().copied();
        agent.post(uri).send_form(form).map_err(Trouble::Http)
    }

    fn agent(&self, uri: &Uri) -> Result<Agent, Trouble> {
        let key = origin(uri);
        let mut agents = self.agents.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let proxy = match self.proxies.of(uri) {
            None => None,
            Some(text) => {
                let proxy = Proxy::new(text).map_err(Trouble::Http)?;
                let scheme = proxy.uri().scheme_str().map(str::to_ascii_lowercase);
                if !matches!(scheme.as_deref(), Some("http" | "https")) {
                    return Err(Trouble::Own(super::failure::error(
                        "proxy",
                        "the environment's proxy is none that speaks HTTP; name such a one, or the host in NO_PROXY",
                    )));
                }
                Some(proxy)
            }
        };
        let mut tls = TlsConfig::builder()
            .disable_verification(!self.tls_verify)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let by_tls = |uri: &Uri| uri.scheme_str() == Some("https");
        if by_tls(uri) || proxy.as_ref().is_some_and(|proxy| by_tls(proxy.uri())) {
            tls = tls.root_certs(self.roots().map_err(Trouble::Own)?);
        }
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .tls_config(tls.build())
            .user_agent(concat!("stockade/", env!("CARGO_PKG_VERSION")))
            // A layer is to come as it is stored.
            .accept_encoding("identity")
            .max_response_header_size(HEADER_MAX)
            .timeout_recv_response(Some(self.tcp.patience * 2))
            .build();
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(self.tcp.clone())
                .chain(RustlsConnector::default());
        let agent = Agent::with_parts(config, connector, Names);
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// The authorities that are trusted: the system's, and those that the caller names.
    fn roots(&self) -> Result<RootCerts, Error> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let mut all: Vec<Certificate<'static>> = Vec::new();
        if self.tls_verify {
            let found = rustls_native_certs::load_native_certs();
            all.extend(
                found
                    .certs
                    .iter()
                    .map(|der| Certificate::from_der(der).to_owned()),
            );
            if let Some(file) = &self.ca_file {
                let name = shown(file);
                let pem = std::fs::read(file).map_err(|e| {
                    Error::system(format_args!("read the authorities in {name}"), e).into_invalid()
                })?;
                let before = all.len();
                all.extend(parse_pem(&pem).filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                }));
                if all.len() == before {
                    return Err(Error::invalid(format!(
                        "{name} has no certificate in PEM form"
                    )));
                }
            }
            if all.is_empty() {
                return Err(super::failure::error(
                    "tls",
                    "this system has no certificates of authorities: install its `ca-certificates`, or name a file \
                     (`ca_file`, or SSL_CERT_FILE in the environment)",
                ));
            }
        }
        Ok(self.roots.get_or_init(|| RootCerts::from(all)).clone())
    }
}

enum Trouble {
    Http(ureq::Error),
    Own(Error),
}

/// The host and port of a URL, as they are shown.
pub(super) fn host(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, |authority| {
        let text = authority.as_str();
        text.rsplit_once('@').map_or(text, |(_, host)| host).into()
    })
}

/// What a browser calls the origin: scheme, host and port.
fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let usual = if scheme == "https" { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    format!("{scheme}://{host}:{}", uri.port_u16().unwrap_or(usual))
}

/// Where `to` leads, seen from `from`. A URL with a name and password in it leads nowhere.
fn resolve(from: &Uri, to: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let path = from.path();
    let to = to.split('#').next().unwrap_or_default();
    let text = if to
        .split(['/', '?'])
        .next()
        .is_some_and(|first| first.contains(':'))
    {
        to.to_string()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else if to.starts_with('?') {
        format!("{scheme}://{authority}{path}{to}")
    } else {
        let (directory, _) = path.rsplit_once('/').unwrap_or_default();
        format!("{scheme}://{authority}{directory}/{to}")
    };
    let uri: Uri = text.parse().ok()?;
    let bare = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    let whole = uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty());
    (bare && whole).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_redirect_leads() {
        let from: Uri = "https://a.example:5000/v2/x/blobs/sha256:1?y=z"
            .parse()
            .unwrap();
        for (to, leads) in [
            ("https://b.example/c?d=e", Some("https://b.example/c?d=e")),
            ("http://b.example/", Some("http://b.example/")),
            ("//b.example/c", Some("https://b.example/c")),
            ("/c/d?e", Some("https://a.example:5000/c/d?e")),
            ("?e", Some("https://a.example:5000/v2/x/blobs/sha256:1?e")),
            ("c", Some("https://a.example:5000/v2/x/blobs/c")),
            ("/c#d", Some("https://a.example:5000/c")),
            ("https://me:secret@b.example/", None),
            ("https://", None),
            ("file:///etc/passwd", None),
            ("b.example:80", None),
            ("/a b", None),
        ] {
            let is = resolve(&from, to);
            assert_eq!(is.map(|uri| uri.to_string()).as_deref(), leads, "{to}");
        }
    }

    #[test]
    fn origins() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("https://a.example/x"), of("https://A.example:443/y"));
        assert_ne!(of("https://a.example/x"), of("http://a.example/x"));
        assert_ne!(of("https://a.example/x"), of("https://a.example:5000/x"));
        assert_ne!(of("https://a.example/x"), of("https://b.a.example/x"));
        assert_eq!(
            host(&"https://me:secret@a.example:5/x".parse().unwrap()),
            "a.example:5"
        );
    }
}
