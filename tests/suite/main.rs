//! The behaviour of the library, seen from outside: programs with known behaviour are run in sandboxes, and what
//! comes back is held against what is known. Every test runs as root and as a plain user; what a host lacks is
//! skipped with its reason, and the last line of the run counts the skips.

mod accuracy;
mod build;
mod commit;
mod control;
mod deterministic;
mod drift;
mod ends;
mod errors;
mod exhausted;
mod export;
mod faults;
mod files;
mod floods;
mod fork;
mod hosts;
mod image_run;
mod images;
mod inject;
mod isolation;
mod landlock;
mod lateral;
mod limits;
mod made;
mod network;
mod notifications;
mod overlay;
mod patience;
mod profile;
mod pull;
mod resources;
mod restrict;
mod sandbox;
mod scenarios;
mod stuck;
mod support;
mod threads;
mod trees;
mod truth;
mod update;
mod verdicts;
mod violation;
mod volumes;
