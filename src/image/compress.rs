//! Compressed streams: told by their first bytes, decoded within limits.

use super::{LoadLimits, bad, into_io};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::BlockDecodingStrategy;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream say.
    pub fn of(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame, with which a zstd stream may begin.
            [b, 0x2a, 0x4d, 0x18, ..] if b & 0xf0 == 0x50 => Compression::Zstd,
            _ => Compression::Plain,
        }
    }

    /// The media type of a layer so compressed.
    pub fn layer_type(self) -> &'static str {
        match self {
            Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// What a stream holds, decompressed. A bomb ends as an error, by its ratio before its size is reached.
pub(super) struct Decoder<R: Read> {
    inner: Inner<R>,
    compression: Compression,
    read: Rc<Cell<u64>>,
    given: u64,
    max: u64,
    ratio: u64,
}

enum Inner<R: Read> {
    Plain(BufReader<Counting<R>>),
    Gzip(Box<MultiGzDecoder<BufReader<Counting<R>>>>),
    Zstd(Box<Frames<BufReader<Counting<R>>>>),
}

/// Up to here any ratio is fine: a file of zeros is nothing odd. (Less in tests, which make bombs.)
const RATIO_FROM: u64 = if cfg!(any(test, fuzzing)) {
    4 << 20
} else {
    256 << 20
};

impl<R: Read> Decoder<R> {
    /// Looks at the start of `source`. More than `limits.size` bytes out of it are an error.
    pub fn new(source: R, limits: &LoadLimits) -> io::Result<Self> {
        let read = Rc::new(Cell::new(0));
        let counting = Counting {
            inner: source,
            count: read.clone(),
        };
        let mut source = BufReader::with_capacity(1 << 17, counting);
        let compression = Compression::of(source.fill_buf()?);
        let inner = match compression {
            Compression::Plain => Inner::Plain(source),
            Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(source))),
            Compression::Zstd => Inner::Zstd(Box::new(Frames::new(source))),
        };
        Ok(Decoder {
            inner,
            compression,
            read,
            given: 0,
            max: limits.size,
            ratio: limits.ratio,
        })
    }

    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// What was wrapped.
    pub fn into_inner(self) -> R {
        match self.inner {
            Inner::Plain(source) => source,
            Inner::Gzip(decoder) => decoder.into_inner(),
            Inner::Zstd(frames) => frames.source,
        }
        .into_inner()
        .inner
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.inner {
            Inner::Plain(source) => source.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(frames) => frames.read(buffer),
        };
        let n = result.map_err(|error| match self.compression {
            // What the source itself says stays as it is.
            _ if error.raw_os_error().is_some() || super::carried(&error) => error,
            Compression::Gzip => into_io(bad(
                "compression",
                format!("the gzip data is damaged: {error}"),
            )),
            Compression::Zstd => into_io(bad(
                "compression",
                format!("the zstd data is damaged: {error}"),
            )),
            Compression::Plain => error,
        })?;
        self.given += n as u64;
        if self.given > self.max {
            return Err(into_io(bad(
                "limit size",
                format!("it unpacks to more than {} bytes", self.max),
            )));
        }
        let within = self.read.get().saturating_mul(self.ratio);
        if self.compression != Compression::Plain && self.given > RATIO_FROM.max(within) {
            return Err(into_io(bad(
                "limit ratio",
                format!(
                    "{} compressed bytes unpack to more than {} times as many",
                    self.read.get(),
                    self.ratio
                ),
            )));
        }
        Ok(n)
    }
}

struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// All frames of a zstd stream: ruzstd's own reader ends with the first.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Frames {
            source,
            decoder: FrameDecoder::new(),
            in_frame: false,
        }
    }

    /// Whether there is another frame.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                self.in_frame = self.next_frame()?;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let (said, is) = (
                self.decoder.get_checksum_from_data(),
                self.decoder.get_calculated_checksum(),
            );
            if let (Some(said), Some(is)) = (said, is)
                && said != is
            {
                return Err(io::Error::other("the checksum of a frame is wrong"));
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn decode(data: &[u8], limits: &LoadLimits) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        Decoder::new(data, limits)
            .unwrap()
            .read_to_end(&mut out)
            .map_err(|e| e.to_string())?;
        Ok(out)
    }

    #[test]
    fn every_form_and_many_members() {
        let limits = LoadLimits::default();
        let text = b"copy on write".repeat(20_000);
        assert_eq!(decode(&text, &limits).unwrap(), text);
        assert_eq!(decode(b"", &limits).unwrap(), b"");
        let twice = [&text[..], &text[..]].concat();
        let members = [gzip(&text), gzip(&text)].concat();
        assert_eq!(decode(&members, &limits).unwrap(), twice);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [skippable.clone(), zstd(&text), skippable, zstd(&text)].concat();
        assert_eq!(decode(&frames, &limits).unwrap(), twice);
    }

    #[test]
    fn damage_is_named() {
        let limits = LoadLimits::default();
        let text = b"copy on write".repeat(2_000);
        for whole in [gzip(&text), zstd(&text)] {
            for cut in [whole.len() - 1, whole.len() / 2, 12] {
                assert!(decode(&whole[..cut], &limits).is_err(), "{cut}");
            }
            let mut flipped = whole.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 0x55;
            if let Ok(out) = decode(&flipped, &limits) {
                assert_eq!(out, text, "a damaged stream gave something else");
            }
        }
        let error = decode(&gzip(&text)[..40], &limits).unwrap_err();
        assert!(error.contains("gzip data is damaged"), "{error}");
    }

    #[test]
    fn bombs_end_as_errors() {
        let zeros = vec![0; 8 << 20];
        let limits = LoadLimits::default();
        let error = decode(&gzip(&zeros), &limits.clone().ratio(100)).unwrap_err();
        assert!(error.contains("100 times as many"), "{error}");
        let error = decode(&gzip(&zeros), &limits.clone().size(1 << 20)).unwrap_err();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        assert_eq!(decode(&gzip(&zeros), &limits.ratio(10_000)).unwrap(), zeros);
    }
}
