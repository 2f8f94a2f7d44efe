# syntax=docker/dockerfile:1
# otpd in an image without a shell: the binary, the C library, nothing else. docs/deployment.md says how to run it.
#
# Both base images can be replaced, by a mirror or by a digest: --build-arg RUNTIME=registry.example/distroless/cc-debian12@sha256:...
# They go together: the C library of RUNTIME must be no older than that of BUILDER.
ARG BUILDER=docker.io/library/rust:1.94.1-slim-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
# The caches hold downloads and compiled dependencies between builds; the binary is copied out of them, since they are no layers.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release --bin otpd && \
    install -D target/release/otpd /image/usr/local/bin/otpd && \
    install -d /image/var/lib/otpd

FROM ${RUNTIME}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="otpd" \
      org.opencontainers.image.description="A gRPC one-time-password service: open a challenge, send a code, verify it" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/usr/local/bin/otpd /usr/local/bin/otpd
# For the embedded store alone, and owned by the user below. A volume starts with the owner that the folder has here.
COPY --from=build --chown=65532:65532 /image/var/lib/otpd /var/lib/otpd
# The default of store.url, embedded:./otpd-data, is then on the volume.
WORKDIR /var/lib/otpd
COPY deploy/image/otpd.toml /etc/otpd/otpd.toml
# Where to listen is in the file, and not in variables, which would win over a file that is mounted. The profile is one: an image is
# what gets deployed, so that it refuses what is fit for development only until somebody says otherwise.
ENV OTPD_CONFIG=/etc/otpd/otpd.toml \
    OTPD__PROFILE=production
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 65532:65532
VOLUME ["/var/lib/otpd"]
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/otpd", "health"]
ENTRYPOINT ["/usr/local/bin/otpd"]
