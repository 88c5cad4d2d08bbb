package io.r2lock;

class OldestAmbientRefusalIT extends AmbientRefusalContract {

    OldestAmbientRefusalIT() {
        super(TestServer.oldest());
    }
}
