// Reads {key, open: [sealed], seal: [text]} from stdin, writes {opened: [text], sealed: [sealed]}. A sealed value is
// iv:authTag:encryptedContent in hex.
const { createCipheriv, createDecipheriv, randomBytes } = require('node:crypto');
const { readFileSync } = require('node:fs');

const options = { authTagLength: 16 };
const { key: hexKey, open, seal } = JSON.parse(readFileSync(0, 'utf8'));
const key = Buffer.from(hexKey, 'hex');

function encrypt(text) {
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-256-gcm', key, iv, options);
  const content = cipher.update(text, 'utf8', 'hex') + cipher.final('hex');
  return [iv.toString('hex'), cipher.getAuthTag().toString('hex'), content].join(':');
}

function decrypt(sealed) {
  const [iv, tag, content] = sealed.split(':');
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(iv, 'hex'), options);
  decipher.setAuthTag(Buffer.from(tag, 'hex'));
  return decipher.update(content, 'hex', 'utf8') + decipher.final('utf8');
}

process.stdout.write(JSON.stringify({ opened: open.map(decrypt), sealed: seal.map(encrypt) }));
