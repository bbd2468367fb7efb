# One image for every daemon of the host and for xm: docker-compose.yml says which program a service runs.

# Only what npm needs to know, so that a change of sources does not install everything again.
FROM node:24-bookworm-slim AS manifests
WORKDIR /opt/xenhost
COPY package.json package-lock.json ./
COPY packages packages
RUN find packages -type f ! -path 'packages/*/package.json' -delete && find packages -type d -empty -delete

FROM node:24-bookworm-slim AS build
WORKDIR /opt/xenhost
COPY --from=manifests /opt/xenhost ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY packages packages
COPY tools tools
RUN node tools/build.mjs && node tools/embed-guests.ts dist/guests

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
    XENHOST_RUN=/xen \
    XENHOST_LOG=/xen/log \
    XENHOST_LIB=/xen/lib \
    XENHOST_READY_FILE=/tmp/ready
WORKDIR /opt/xenhost
# netback's way out.
RUN apt-get update \
    && apt-get install -y --no-install-recommends passt \
    && rm -rf /var/lib/apt/lists/*
# A new volume at /xen takes over this folder's owner.
RUN mkdir /xen && chown node:node /xen
COPY --from=build /opt/xenhost/dist dist
USER node
# The interval is a compromise: every check starts a process, and guests want these cores.
HEALTHCHECK --interval=5s --timeout=10s --retries=6 CMD ["node", "dist/healthcheck.mjs"]
ENTRYPOINT ["node"]
