# Built by BuildKit, the default builder since Docker 23. Bases are named by version; `make docker-pins` adds their digests.
ARG RUST_IMAGE=rust:1.95-trixie
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot

# On the same Debian as the final image, so that the libc matches.
FROM ${RUST_IMAGE} AS build
WORKDIR /build

# A layer of its own for the dependencies, rebuilt only when they change: cargo builds them for a program that does nothing. The build of
# that program is removed, so that every build compiles our own code: cargo would judge it by the times of files, which a copy keeps and a
# check-out invents. For the same reason builds share no cache.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && \
    touch src/lib.rs && \
    echo 'fn main() {}' > src/main.rs && \
    cargo build --release --locked --bin fast-ingest && \
    cargo clean --release --locked --package fast-ingest && \
    rm -r src

COPY build.rs ./
COPY migrations migrations
COPY src src
RUN cargo build --release --locked --offline --bin fast-ingest && \
    mkdir /empty

# No shell, no package manager: libc, root certificates and the binary.
FROM ${RUNTIME_IMAGE}
COPY --from=build /build/target/release/fast-ingest /usr/local/bin/fast-ingest
# A new volume takes the owner of the directory that it covers.
COPY --from=build --chown=65532:65532 /empty /data
ENV FAST_INGEST_HOST=0.0.0.0 \
    FAST_INGEST_DATA_DIR=/data \
    FAST_INGEST_LOG_FORMAT=json \
    PORT=8080
# Even without a volume given, acknowledged events outlive the container.
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["/usr/local/bin/fast-ingest", "health"]
ENTRYPOINT ["/usr/local/bin/fast-ingest"]
CMD ["serve"]
