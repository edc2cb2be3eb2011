//! A registry in a few lines, which can be told to misbehave.

use crate::images::Place;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stockade::image::{Digest, Format, Store, Target};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a repository serves.
#[derive(Clone, Default)]
pub struct Repository {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// The manifest's digest.
    pub manifest: String,
    /// Layers' digests, the lowest first.
    pub layers: Vec<String>,
}

impl Repository {
    /// The parts of an image, as an OCI layout has them.
    pub fn of(store: &Store, image: &str, place: &Place) -> Repository {
        let dir = place.at(&format!("layout-{}", image.replace(':', "-")));
        let target = Target::Path(dir.clone());
        store
            .save(&[image], Format::OciDirectory, target, None)
            .unwrap();
        let mut blobs = BTreeMap::new();
        for entry in std::fs::read_dir(dir.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            let name = format!("sha256:{}", entry.file_name().to_str().unwrap());
            blobs.insert(name, std::fs::read(entry.path()).unwrap());
        }
        let index = std::fs::read(dir.join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let manifest = index["manifests"][0]["digest"]
            .as_str()
            .unwrap()
            .to_string();
        let json: serde_json::Value = serde_json::from_slice(&blobs[&manifest]).unwrap();
        let layers = json["layers"].as_array().unwrap().iter();
        let layers = layers
            .map(|layer| layer["digest"].as_str().unwrap().into())
            .collect();
        Repository {
            blobs,
            manifest,
            layers,
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.blobs[&self.manifest]).unwrap()
    }

    /// Puts a document beside the others. Gives its digest.
    pub fn add(&mut self, document: impl Into<Vec<u8>>) -> String {
        let data = document.into();
        let digest = Digest::of(&data).to_string();
        self.blobs.insert(digest.clone(), data);
        digest
    }
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that is wanted.
    pub fn from(&self) -> usize {
        let range = self
            .header("range")
            .and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
    }

    /// The digest of the blob that is asked for.
    pub fn blob(&self) -> Option<&str> {
        self.path.split_once("/blobs/").map(|(_, digest)| digest)
    }

    pub fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What `Content-Length` says, if it is not the truth.
    pub length: Option<u64>,
    /// Bytes of the body that are sent, and what becomes of the connection then.
    pub cut: Option<(usize, Cut)>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Cut {
    /// It is closed.
    Close,
    /// Nothing more comes.
    Stall,
    /// A byte comes now and then.
    Drip,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
            length: None,
            cut: None,
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut(mut self, after: usize, how: Cut) -> Reply {
        self.cut = Some((after, how));
        self
    }
}

type Handler = dyn Fn(&Server, &Seen) -> Option<Reply> + Send + Sync;

struct Inner {
    address: String,
    repository: Repository,
    handler: Box<Handler>,
    seen: Mutex<Vec<Seen>>,
    sent: AtomicUsize,
    now: AtomicUsize,
    peak: AtomicUsize,
    end: AtomicBool,
}

/// A server, which ends with the last of its values.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

impl Server {
    /// Serves the repository as `x/y`. What `handler` answers goes first.
    pub fn start(
        repository: Repository,
        handler: impl Fn(&Server, &Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server(Arc::new(Inner {
            address: listener.local_addr().unwrap().to_string(),
            repository,
            handler: Box::new(handler),
            seen: Mutex::default(),
            sent: 0.into(),
            now: 0.into(),
            peak: 0.into(),
            end: false.into(),
        }));
        let own = Arc::downgrade(&server.0);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(inner) = own
                    .upgrade()
                    .filter(|inner| !inner.end.load(Ordering::Relaxed))
                else {
                    break;
                };
                std::thread::spawn(move || Server(inner).serve(stream.unwrap()));
            }
        });
        server
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    pub fn repository(&self) -> &Repository {
        &self.0.repository
    }

    /// The name of its image.
    pub fn image(&self) -> String {
        format!("{}/x/y:1", self.0.address)
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    /// Requests for blobs that came so far, but for the configuration.
    pub fn layers_asked(&self) -> Vec<Seen> {
        let layers = &self.0.repository.layers;
        let mut seen = self.seen();
        seen.retain(|seen| {
            seen.blob()
                .is_some_and(|blob| layers.iter().any(|layer| layer == blob))
        });
        seen
    }

    /// Bytes of bodies that were sent so far.
    pub fn sent(&self) -> usize {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Most layers that were being sent at one time.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// What a registry that behaves answers.
    pub fn honest(&self, seen: &Seen) -> Reply {
        let repository = &self.0.repository;
        let place = seen
            .path
            .strip_prefix("/v2/x/y/")
            .and_then(|rest| rest.split_once('/'));
        let (kind, name) = place.unwrap_or_default();
        let name = match (kind, name) {
            ("manifests", "1") => &repository.manifest,
            (_, name) => name,
        };
        let Some(data) = repository.blobs.get(name) else {
            return Reply::new(
                404,
                r#"{"errors":[{"code":"NAME_UNKNOWN","message":"s3cret-of-the-tests"}]}"#,
            );
        };
        match (kind, seen.from()) {
            ("manifests", _) => {
                let json: serde_json::Value = serde_json::from_slice(data).unwrap();
                let own = json["mediaType"].as_str().unwrap_or(MANIFEST);
                Reply::new(200, data.clone()).header("Content-Type", own)
            }
            (_, 0) => Reply::new(200, data.clone()),
            (_, from) if from >= data.len() => Reply::new(416, ""),
            (_, from) => Reply::new(206, &data[from..]).header(
                "Content-Range",
                format!("bytes {from}-{}/{}", data.len() - 1, data.len()),
            ),
        }
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if speaks_tls(&mut reader, &stream) {
            return;
        }
        while let Some(seen) = request(&mut reader) {
            self.0.seen.lock().unwrap().push(seen.clone());
            if seen.method == "CONNECT" {
                // As a proxy it leads to itself.
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                if speaks_tls(&mut reader, &stream) {
                    return;
                }
                continue;
            }
            let is_layer = seen
                .blob()
                .is_some_and(|blob| self.0.repository.layers.iter().any(|l| l == blob));
            if is_layer {
                let now = self.0.now.fetch_add(1, Ordering::Relaxed) + 1;
                self.0.peak.fetch_max(now, Ordering::Relaxed);
            }
            let reply = (self.0.handler)(self, &seen).unwrap_or_else(|| self.honest(&seen));
            let sent = self.send(&stream, reply);
            if is_layer {
                self.0.now.fetch_sub(1, Ordering::Relaxed);
            }
            if sent.is_none() {
                return;
            }
        }
    }

    /// None if that was the last on this connection.
    fn send(&self, mut stream: &TcpStream, reply: Reply) -> Option<()> {
        let mut head = format!("HTTP/1.1 {} Word\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let chunked = reply
            .headers
            .iter()
            .any(|(name, _)| name == "Transfer-Encoding");
        if !chunked {
            head += &format!(
                "Content-Length: {}\r\n",
                reply.length.unwrap_or(reply.body.len() as u64)
            );
        }
        stream.write_all((head + "\r\n").as_bytes()).ok()?;
        let (end, how) = reply.cut.unwrap_or((reply.body.len(), Cut::Close));
        for part in reply.body[..end].chunks(32 << 10) {
            stream.write_all(part).ok()?;
            self.0.sent.fetch_add(part.len(), Ordering::Relaxed);
        }
        if reply.cut.is_none() {
            // What is not the truth leaves the two at odds about where the next answer begins.
            return reply.length.is_none().then_some(());
        }
        let began = Instant::now();
        while how != Cut::Close && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
            if how == Cut::Drip && stream.write_all(b"x").is_err()
                || self.0.end.load(Ordering::Relaxed)
            {
                break;
            }
        }
        None
    }

    /// Lets nobody in any more, and ends what is under way.
    pub fn end(&self) {
        self.0.end.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.0.address);
    }
}

/// It does not, and says so as other servers do.
fn speaks_tls(reader: &mut impl BufRead, mut stream: &TcpStream) -> bool {
    let start = reader
        .fill_buf()
        .map_or(None, |start| start.first().copied());
    if start == Some(0x16) {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    }
    start.is_none_or(|first| first == 0x16)
}

fn request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut seen = Seen {
        method,
        path: path.into(),
        query: query.into(),
        ..Seen::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        seen.headers
            .insert(name.to_ascii_lowercase(), value.trim().into());
    }
    let length = seen
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}
