//! Generates the gRPC service from its definition, without a `protoc` binary.

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=proto/echo.proto");
    let files = protox::compile(["echo.proto"], ["proto"])?;
    Ok(tonic_prost_build::configure().compile_fds(files)?)
}
