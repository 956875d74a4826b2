// What a browser does while somebody signs in: it follows redirects and keeps cookies. The test's provider asks nothing.
export async function walk(start, redirectUri) {
  const jar = new Map();
  let url = new URL(start);
  for (let step = 0; step < 10; step += 1) {
    const cookie = [...(jar.get(url.host) ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', headers: cookie ? { cookie } : {} });
    const kept = jar.get(url.host) ?? new Map();
    jar.set(url.host, kept);
    for (const line of response.headers.getSetCookie()) {
      const [name, ...value] = line.split(';')[0].split('=');
      kept.set(name, value.join('='));
    }
    const location = response.headers.get('location');
    if (location === null) throw new Error(`${response.status} at ${url}: ${await response.text()}`);
    if (location.startsWith(redirectUri)) return new URL(location);
    url = new URL(location, url);
  }
  throw new Error('too many redirects');
}
