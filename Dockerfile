# walferry in a container: the binary, pg_dump and pg_restore, the libraries of all, and nothing to build with.
#
#   docker build -t walferry .        (or podman)
#   docker run --rm walferry check --source … --target …
#
# Runs with a read-only root, without capabilities, and writes nothing outside of /tmp. PROFILE=dev builds sooner; FEATURES=kafka-tls adds TLS
# and SCRAM to the brokers (docs/kafka.md):
#
#   docker build -t walferry --build-arg FEATURES=kafka-tls .

ARG RUST=1.95.0
ARG DEBIAN=trixie
ARG POSTGRES=18

FROM docker.io/library/rust:${RUST}-slim-${DEBIAN} AS build
# librdkafka is compiled from source, which takes a C compiler and make; with FEATURES=kafka-tls it also looks for the system's OpenSSL. What it
# needs of that to run comes with pg_dump.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make ca-certificates libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG PROFILE=release
ARG FEATURES=
# The toolchain is the one of this image: rust-toolchain.toml would fetch the linters as well.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    rm rust-toolchain.toml \
    && cargo build --locked --profile "$PROFILE" --features "$FEATURES" --bin walferry \
    && folder=$([ "$PROFILE" = dev ] && echo debug || echo "$PROFILE") \
    && install -D "target/$folder/walferry" /out/usr/local/bin/walferry \
    && strip --strip-debug /out/usr/local/bin/walferry \
    && install -D -m 755 compose/image/healthy /out/usr/local/bin/healthy \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt

# The services of the demo (compose/compose.yml), which are no part of walferry: docker build --target orders .
FROM build AS build-orders
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile "$PROFILE" --example orders \
    && folder=$([ "$PROFILE" = dev ] && echo debug || echo "$PROFILE") \
    && install -D "target/$folder/examples/orders" /services/usr/local/bin/orders \
    && strip --strip-debug /services/usr/local/bin/orders

FROM docker.io/library/debian:${DEBIAN}-slim AS orders
COPY --from=build-orders /services /
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin walferry
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
ENTRYPOINT ["orders"]

# The newest pg_dump reads every source from 10 on; pg_restore takes apart what it wrote. Taken out of the server's image with the libraries that it names.
FROM docker.io/library/postgres:${POSTGRES}-${DEBIAN} AS client
COPY compose/image/with-libraries /usr/local/bin/
RUN for program in pg_dump pg_restore; do \
        sh /usr/local/bin/with-libraries "$(readlink -f "$(pg_config --bindir)/$program")" /out; done

FROM docker.io/library/debian:${DEBIAN}-slim
LABEL org.opencontainers.image.title=walferry \
      org.opencontainers.image.description="Moves a live PostgreSQL database into another one and keeps the copy fed" \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=client /out /
COPY --from=build /out /
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin walferry
USER 10001:10001
ENV PATH=/usr/local/bin:/usr/bin:/bin \
    WALFERRY_LOG_PROGRESS=never
WORKDIR /tmp
# Answers with WALFERRY_HTTP_LISTEN=127.0.0.1:8080 (or another port, named by HEALTH_PORT too).
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["healthy"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["walferry"]
CMD ["--help"]
