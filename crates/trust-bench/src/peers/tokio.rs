//! What most Rust users would write: tokio with tokio-util's codec, and tokio's plain read and
//! write. One thread, as our server has one worker.

use std::io;
use std::net::TcpListener;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::LengthDelimitedCodec;

/// Bytes that a task of [`serve_bytes`] receives per call: a message of 16 KiB and its header.
const BUFFER_BYTES: usize = 16 * 1024 + 4;

/// Serves frames until an error, one at a time, as in the examples of `tokio_util::codec`.
///
/// # Errors
///
/// Errors of the runtime and of accept(2).
pub(super) fn serve_frames(listener: TcpListener) -> io::Result<()> {
    serve(listener, async |stream| {
        let mut frames =
            LengthDelimitedCodec::builder().max_frame_length(16 * 1024 * 1024).new_framed(stream);
        while let Some(Ok(frame)) = frames.next().await {
            if frames.send(frame.freeze()).await.is_err() {
                return;
            }
        }
    })
}

/// Sends back bytes until an error.
///
/// # Errors
///
/// Errors of the runtime and of accept(2).
pub(super) fn serve_bytes(listener: TcpListener) -> io::Result<()> {
    serve(listener, async |mut stream| {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(received @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..received]).await.is_err() {
                return;
            }
        }
    })
}

fn serve<C>(listener: TcpListener, connection: impl Fn(TcpStream) -> C) -> io::Result<()>
where
    C: Future<Output = ()> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(connection(stream));
        }
    })
}
