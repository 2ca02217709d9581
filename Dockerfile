# syntax=docker/dockerfile:1

# Built on the same Debian as the final image, so that the libc fits.
FROM rust:1-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY migrations migrations
COPY benches benches
# The caches make a rebuild cost only what changed; the binary is copied out because a cache mount is not part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked && \
    cp target/release/fast-ingest /fast-ingest && \
    mkdir /empty

# No shell, no package manager: libc, root certificates and the binary.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /fast-ingest /usr/local/bin/fast-ingest
# A volume takes over the owner of the directory that it covers.
COPY --from=build --chown=nonroot:nonroot /empty /data
ENV FAST_INGEST_HOST=0.0.0.0 \
    FAST_INGEST_DATA_DIR=/data \
    FAST_INGEST_LOG_FORMAT=json \
    PORT=8080
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["/usr/local/bin/fast-ingest", "health"]
ENTRYPOINT ["/usr/local/bin/fast-ingest"]
CMD ["serve"]
