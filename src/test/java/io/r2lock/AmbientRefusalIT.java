package io.r2lock;

class AmbientRefusalIT extends AmbientRefusalContract {

    AmbientRefusalIT() {
        super(TestServer.newest());
    }
}
