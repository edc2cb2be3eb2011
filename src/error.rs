//! What went wrong before a program could run.

use std::fmt;
use std::io;

/// Why a call failed. A program that ran and failed is never an `Error`: that is an
/// [`Outcome`](crate::Outcome) with its [`Verdict`](crate::Verdict).
///
/// The text names the step, the object, the errno and what to do about it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    errno: i32,
    step: &'static str,
}

/// The kinds of [`Error`]. The numbers are the C API's status codes and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum ErrorKind {
    /// The specification or an argument is wrong. Nothing was started.
    InvalidArgument = 1,
    /// This host cannot do what was asked (no user namespaces, a limit nothing here can enforce). Nothing was started.
    Unsupported = 2,
    /// Setting up the sandbox failed, or reading or writing the image store; `errno` and `step` say where. The program
    /// did not run.
    Setup = 3,
    /// The call does not fit the state of the handle (closed, finished, made by another process).
    State = 4,
    /// The supervisor went away while the program ran; nothing of the sandbox is left.
    Supervisor = 5,
    /// The system refused a resource: memory, descriptors, processes.
    Resource = 6,
    /// A bug in stockade; please report it.
    Internal = 7,
    /// An image, or an archive of images, is damaged, is not what its digest says, or tries what an image must not.
    /// `step` is the rule that it breaks. Nothing of it was kept. Also if a program that is run for a build fails
    /// (`"run"`).
    Image = 8,
    /// The store has no such image; or a registry has none that it shows to who asks.
    NotFound = 9,
    /// A registry cannot be reached, refuses, or does not answer as it should; `step` says which: `"connect"`, `"tls"`,
    /// `"timeout"`, `"proxy"`, `"redirect"`, `"auth"`, `"http"`. What was downloaded is kept for the next try.
    Registry = 10,
}

/// Whether it says that there was not enough of something just then.
pub(crate) fn is_resource(errno: i32) -> bool {
    matches!(
        errno,
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN
    )
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            errno: 0,
            step: "",
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// An operation of the host library that failed with `source`: "{what}: {source}".
    pub(crate) fn system(what: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let errno = source.raw_os_error().unwrap_or(0);
        let kind = match is_resource(errno) {
            true => ErrorKind::Resource,
            false => ErrorKind::Setup,
        };
        Error(Box::new(Inner {
            kind,
            message: format!("{what}: {source}"),
            errno,
            step: "",
        }))
    }

    /// What a panic said, for the borders to other languages, which no panic may cross.
    #[cfg(any(feature = "capi", feature = "python"))]
    pub(crate) fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = match (
            payload.downcast_ref::<&str>(),
            payload.downcast_ref::<String>(),
        ) {
            (Some(text), _) => text,
            (_, Some(text)) => text.as_str(),
            _ => "no message",
        };
        Self::new(
            ErrorKind::Internal,
            format!("a bug in stockade, please report it: {text}"),
        )
    }

    pub(crate) fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = errno;
        self
    }

    pub(crate) fn with_step(mut self, step: &'static str) -> Self {
        self.0.step = step;
        self
    }

    /// The same error, about `what`: "{what}: {message}".
    #[cfg(feature = "image")]
    pub(crate) fn about(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// The same error, which came after another that was not the end yet.
    #[cfg(feature = "pull")]
    pub(crate) fn after(mut self, earlier: &Error) -> Self {
        self.0.message = format!("{}; before that: {earlier}", self.0.message);
        self
    }

    /// The same error, as one of the caller's own making.
    pub(crate) fn into_invalid(mut self) -> Self {
        self.0.kind = ErrorKind::InvalidArgument;
        self
    }

    pub(crate) fn step_static(&self) -> &'static str {
        self.0.step
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The `errno` of the system call that failed, or 0 if none did.
    pub fn errno(&self) -> i32 {
        self.0.errno
    }

    /// The step of the set-up that failed (`"mount proc"`), or `""`.
    pub fn step(&self) -> &str {
        self.0.step
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for Error {}
