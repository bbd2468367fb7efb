# One image for every daemon of the host and for xm: docker-compose.yml says which program a service runs.
FROM node:24-bookworm-slim AS build
WORKDIR /opt/xenhost
COPY package.json package-lock.json ./
COPY packages packages
COPY tools tools
RUN npm ci --ignore-scripts --no-audit --no-fund
RUN node tools/build.mjs && node tools/embed-guests.ts dist/guests

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
    XENHOST_RUN=/xen \
    XENHOST_LOG=/xen/log \
    XENHOST_LIB=/xen/lib \
    XENHOST_READY_FILE=/tmp/ready
WORKDIR /opt/xenhost
COPY --from=build /opt/xenhost/dist dist
RUN mkdir -p /xen && chown node:node /xen
USER node
VOLUME /xen
HEALTHCHECK --interval=1s --timeout=5s --retries=30 CMD ["node", "dist/healthcheck.mjs"]
ENTRYPOINT ["node"]
