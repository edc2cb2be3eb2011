//! When to try again.

use super::failure::Again;
use super::stop::Stop;
use crate::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// The longest of them.
const LONGEST: Duration = Duration::from_secs(16);
/// Longest wait that a server may ask for. A call that seems to hang is worse than one that fails.
const ASKED_MAX: Duration = Duration::from_secs(120);

/// Tries that are left.
pub(super) struct Retry {
    most: u32,
    used: u32,
}

impl Retry {
    pub fn new(most: u32) -> Retry {
        Retry { most, used: 0 }
    }

    /// Waits for the next try; false if there is none.
    pub fn wait(&mut self, stop: &Stop, again: Again) -> Result<bool, Error> {
        let asked = match again {
            Again::No => return Ok(false),
            Again::Later(Some(asked)) => asked,
            Again::Later(None) | Again::Plain => Duration::ZERO,
        };
        if self.used == self.most || asked > ASKED_MAX {
            return Ok(false);
        }
        let own = FIRST.saturating_mul(1 << self.used.min(16)).min(LONGEST);
        self.used += 1;
        stop.sleep(own.max(asked))?;
        Ok(true)
    }

    /// Something was gained by the last try: the next ones count from the beginning.
    pub fn gained(&mut self) {
        self.used = 0;
    }
}

/// How long `Retry-After` says: in seconds, or as a date.
pub(super) fn after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = UNIX_EPOCH + Duration::from_secs(http_date(text)?);
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, in seconds since the epoch.
fn http_date(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else {
        return None;
    };
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months
        .find(month)
        .filter(|at| month.len() == 3 && at % 3 == 0)? as u64
        / 3
        + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [hours, minutes, seconds] = clock[..] else {
        return None;
    };
    if !(1..=31).contains(&day)
        || !(1970..10_000).contains(&year)
        || hours > 23
        || minutes > 59
        || seconds > 60
    {
        return None;
    }
    // Days since the epoch, by years that begin in March.
    let years = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (years / 400, years % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    let since = days.checked_sub(719_468)?;
    Some(since * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_asks_for() {
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after(" 17 "), Some(Duration::from_secs(17)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(after("Sun, 06 Nov 2994 08:49:37 GMT").unwrap() > ASKED_MAX);
        for bad in [
            "",
            "-1",
            "soon",
            "1.5",
            "Sun, 06 Xxx 1994 08:49:37 GMT",
            "99999999999999999999",
        ] {
            assert_eq!(after(bad), None, "{bad}");
        }
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(
            http_date("Thu, 29 Feb 2024 00:00:00 GMT"),
            Some(1_709_164_800)
        );
    }

    #[test]
    fn so_often_and_no_more() {
        let stop = Stop::default();
        let mut retry = Retry::new(1);
        assert!(!retry.wait(&stop, Again::No).unwrap());
        assert!(retry.wait(&stop, Again::Plain).unwrap());
        assert!(!retry.wait(&stop, Again::Later(None)).unwrap());
        retry.gained();
        assert!(retry.wait(&stop, Again::Later(None)).unwrap());
        retry.gained();
        let long = Again::Later(Some(ASKED_MAX * 2));
        assert!(!retry.wait(&stop, long).unwrap());
        stop.set();
        assert!(retry.wait(&stop, Again::Later(None)).is_err());
    }
}
